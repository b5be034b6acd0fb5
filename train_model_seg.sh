#!/usr/bin/env bash
# Stage 2, segmentation, from ./best_model.pth: ./train_model_seg.sh N BACKBONE [options of Train.py]
# N: 1, 3, 5, 7 are the skip ratios 0, 0.125, 0.25, 0.5; 2, 4, 6, 8: the same with deep supervision
set -euo pipefail
case "${1:-}" in
  1 | 2) skip=0 ;;
  3 | 4) skip=0.125 ;;
  5 | 6) skip=0.25 ;;
  7 | 8) skip=0.5 ;;
  *) echo "usage: $0 N BACKBONE [options of Train.py]; N: 1, 3, 5, 7 are skip ratios 0, 0.125, 0.25, 0.5; even: with deep supervision" >&2; exit 2 ;;
esac
supervision=()
if (($1 % 2 == 0)); then supervision=(--fsds); fi
exec python -u "$(dirname "$0")/Train.py" --mmanet --seg_ild --freeze_all --dataparallel --backbone_class "${2:-densenet161}" \
  --model_path ./best_model.pth --unet --transfer_to "$skip" "${supervision[@]}" "${@:3}"
