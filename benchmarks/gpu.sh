#!/bin/sh
# Every benchmark of speed and memory on one CUDA GPU, in float32, TF32, bfloat16 and compiled: about half an hour.
#   sh benchmarks/gpu.sh RESULTS_FOLDER
# Each table opens with the device's name. It stops at the first command that fails.
set -eu
out=${1:?Usage: sh benchmarks/gpu.sh RESULTS_FOLDER}
python -c 'import sys, torch; sys.exit(None if torch.cuda.is_available() else "There is no CUDA GPU here.")'
here=$(dirname "$0")
mkdir -p "$out"

# project first against torchvision's CUDA kernel, forward and backward, five levels
python "$here/deform_conv_speed.py" --device cuda --repeats 20 --out "$out/deform_conv.md"

for backbone in densenet161 resnet18; do
    # forward and training step against the released code; throughput as a share of the matrix rate (the roofline)
    for batch in 2 8; do
        set -- --backbone "$backbone" --device cuda --size 448 --batch "$batch" --repeats 20 --warm-up 3
        python "$here/network_speed.py" "$@" --out "$out/$backbone-$batch-float32.md"
        python "$here/network_speed.py" "$@" --tf32 --out "$out/$backbone-$batch-tf32.md"
        python "$here/network_speed.py" "$@" --tf32 --compile --out "$out/$backbone-$batch-compiled.md"
    done
    python "$here/enhancer_speed.py" --backbone "$backbone" --device cuda --repeats 20 --out "$out/$backbone-enhancer.md"
    python "$here/memory.py" --backbone "$backbone" --device cuda --size 448 --batch 8 --out "$out/$backbone-memory.md"
    python "$here/profile_step.py" --backbone "$backbone" --device cuda --size 448 --batch 8 --operators 20 \
        --out "$out/$backbone-profile.md"
done

python "$here/peer_speed.py" --device cuda --repeats 20 --out "$out/peer-float32.md"
python "$here/peer_speed.py" --device cuda --precision bfloat16 --repeats 20 --out "$out/peer-bfloat16.md"
