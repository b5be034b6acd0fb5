#!/usr/bin/env bash
# ./train_model_cls.sh N BACKBONE [options of Train.py]   stage 1: 1 attention, 2 mask-guided, 3 none; 4-6: the same with AMP
set -euo pipefail
network=(--mmanet)
case "${1:-}" in
  1 | 4) ;;
  2 | 5) network+=(--maskguided) ;;
  3 | 6) network=() ;;
  *) echo "usage: $0 1-6 BACKBONE [options of Train.py]; 1 attention, 2 mask-guided, 3 no attention, 4-6 the same with AMP" >&2; exit 2 ;;
esac
if (($1 > 3)); then network+=(--amp); fi
exec python -u "$(dirname "$0")/Train.py" "${network[@]}" --cls_ild --dataparallel --backbone_class "${2:-densenet161}" "${@:3}"
