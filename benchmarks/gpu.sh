#!/bin/sh
# Every benchmark of speed and memory on one CUDA GPU, at most 8 minutes:  sh benchmarks/gpu.sh FOLDER
# Without a GPU, to try it out:  sh benchmarks/gpu.sh FOLDER --device cpu --quick --minutes 60
exec python "$(dirname "$0")/gpu.py" "$@"
