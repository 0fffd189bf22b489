#!/usr/bin/env bash
# Trains under torchrun, which starts the ranks again after a failure. On this machine's devices:
#
#   scripts/torchrun.sh strategy=ddp model=pspnet run.dir=outputs/trial
#   NPROC=2 scripts/torchrun.sh trainer=cpu strategy=fsdp model=pspnet run.dir=outputs/trial
#
# On several machines: the same line on every one of them, in any order, within ten minutes:
#
#   HOST=node1 NNODES=2 NPROC=8 scripts/torchrun.sh strategy=fsdp model=pspnet run.dir=/shared/trial
#   STORE=/shared/trial.store NNODES=1:2 NPROC=8 scripts/torchrun.sh strategy=fsdp model=pspnet run.dir=/shared/trial
#
# `python train.py strategy=ddp trainer.devices=8` starts the ranks of one machine without torchrun; then one that dies
# ends the run.
#
#   NPROC     ranks per machine; default: one per GPU (2 on a machine without)
#   RESTARTS  how often ranks are started again after one has died; default 3
#   JOB       a name. The same JOB and run.dir go on from the last checkpoint, also when you give the command again.
#             Default: the run.dir
#   NNODES    machines, default 1; or FEWEST:MOST: the run goes on as long as FEWEST are left, and with each that comes
#             back. data.batch_size is the batch of all ranks together, so the numbers stay; each number of ranks has to
#             divide it.
#   HOST      the machine, by name or address, that keeps the list of who is there. If it dies, all end.
#   STORE     instead of HOST: a new file at each start, on a file system that all machines see. Then any machine may die.
#   PORT      of HOST; default 29400. Two jobs on one HOST need two.
#   ADDRESS   of this machine in the network between them, where its host name leads elsewhere (then also IS_HOST=true
#             on HOST and IS_HOST=false elsewhere); INTERFACE: that network's, such as eth0
#   PYTHON    default: .venv/bin/python where it is there
#
# run.dir=FOLDER has to be among the words: without it a restart would begin a new run. All machines have to see it: rank 0
# writes the checkpoints, and after a restart any of them may be rank 0. Keep code, environment and data at the same paths
# on all machines.
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
  echo "$0: add run.dir=FOLDER, which all machines see: a restart goes on from the checkpoint in it" >&2
  exit 2
fi
NNODES="${NNODES:-1}"
# On one machine a port of its own on the loopback interface, so that two runs don't meet.
endpoint="localhost:0"
if [ -n "${HOST:-}${STORE:-}" ]; then
  endpoint="${STORE:-${HOST:-}:${PORT:-29400}}"
elif [ "$NNODES" != 1 ]; then
  echo "$0: HOST (or STORE) says where NNODES=$NNODES machines meet; see the head of $0" >&2
  exit 2
fi
if [ -z "${NPROC:-}" ]; then
  NPROC=0
  if command -v nvidia-smi > /dev/null; then NPROC="$(nvidia-smi --list-gpus | wc -l)"; fi
  [ "$NPROC" -gt 0 ] || NPROC=2
fi
if [ -n "${INTERFACE:-}" ]; then
  export GLOO_SOCKET_IFNAME="$INTERFACE" NCCL_SOCKET_IFNAME="$INTERFACE"
fi

# Each start has a store of its own: without this, torchrun's workers go on asking a machine that is gone.
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1

conf="last_call_timeout=${LAST_CALL:-30}"
[ -z "${STORE:-}" ] || conf="$conf,store_type=file"
[ -z "${IS_HOST:-}" ] || conf="$conf,is_host=$IS_HOST"
exec "$PYTHON" -m torch.distributed.run \
  --nnodes="$NNODES" --nproc-per-node="$NPROC" --max-restarts="${RESTARTS:-3}" \
  --rdzv-backend=c10d --rdzv-endpoint="$endpoint" --rdzv-id="${JOB:-$run_dir}" --rdzv-conf="$conf" \
  ${ADDRESS:+--local-addr="$ADDRESS"} \
  "$here/train.py" "$@"
