#!/usr/bin/env bash
# Trains on this machine's devices under torchrun, which starts the ranks again after a failure:
#
#   scripts/torchrun_one_node.sh strategy=ddp model=pspnet run.dir=outputs/trial
#   NPROC=2 scripts/torchrun_one_node.sh trainer=cpu strategy=fsdp model=pspnet run.dir=outputs/trial
#
# `python train.py strategy=ddp trainer.devices=8` starts the same ranks without torchrun; then a rank that dies ends the run.
#
#   NPROC     ranks; default: one per GPU (2 on a machine without)
#   RESTARTS  how often the ranks are started again after one of them has died; default 3
#   JOB       a name. The same JOB and run.dir go on from the last checkpoint, also when you give the command again.
#             Default: the run.dir
#   PYTHON    default: .venv/bin/python where it is there
#
# run.dir=FOLDER has to be among the words: without it a restart would begin a new run in a new folder.
set -euo pipefail
here="$(cd "$(dirname "$0")/.." && pwd)"
if [ -z "${PYTHON:-}" ]; then
  PYTHON=python
  if [ -x "$here/.venv/bin/python" ]; then PYTHON="$here/.venv/bin/python"; fi
fi

run_dir=""
for word in "$@"; do
  case "$word" in run.dir=*) run_dir="${word#run.dir=}" ;; esac
done
if [ -z "$run_dir" ]; then
  echo "$0: add run.dir=FOLDER: a restart goes on from the checkpoint in it" >&2
  exit 2
fi
if [ -z "${NPROC:-}" ]; then
  NPROC=0
  if command -v nvidia-smi > /dev/null; then NPROC="$(nvidia-smi --list-gpus | wc -l)"; fi
  [ "$NPROC" -gt 0 ] || NPROC=2
fi

# A port of its own on the loopback interface, so that two runs on one machine don't meet.
exec "$PYTHON" -m torch.distributed.run \
  --nnodes=1 --nproc-per-node="$NPROC" --max-restarts="${RESTARTS:-3}" \
  --rdzv-backend=c10d --rdzv-endpoint=localhost:0 --rdzv-id="${JOB:-$run_dir}" \
  "$here/train.py" "$@"
