#!/usr/bin/env bash
# Stage 1, classification: ./train_model_cls.sh N BACKBONE [options of Train.py]
# N: 1 attention, 2 attention with mask guidance, 3 no attention; 4, 5, 6: the same with mixed precision
set -euo pipefail
network=(--mmanet)
case "${1:-}" in
  1 | 4) ;;
  2 | 5) network+=(--maskguided) ;;
  3 | 6) network=() ;;
  *) echo "usage: $0 N BACKBONE [options of Train.py]; N: 1 attention, 2 mask guidance, 3 no attention; 4-6: the same with AMP" >&2; exit 2 ;;
esac
if (($1 > 3)); then network+=(--amp); fi
exec python -u "$(dirname "$0")/Train.py" "${network[@]}" --cls_ild --dataparallel --backbone_class "${2:-densenet161}" "${@:3}"
