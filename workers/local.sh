#!/usr/bin/env bash
# Add one worker per GPU of this machine (a single one without GPUs) to a run.
#
#   bash local.sh predictions.zarr.predict-run/affs [options of predict worker]
#
# The run's scheduler (`predict run`) must be running on this machine, or on another with --listen.
set -euo pipefail
run_dir=${1:?usage: local.sh RUN_DIR [options of predict worker]}
shift

gpus=$(nvidia-smi --list-gpus 2>/dev/null | wc -l || true)
if [ "$gpus" -eq 0 ]; then
    exec predict worker "$run_dir" --device cpu "$@"
fi
for ((gpu = 0; gpu < gpus; gpu++)); do
    predict worker "$run_dir" --device "cuda:$gpu" "$@" &
done
wait
