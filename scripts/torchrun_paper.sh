#!/usr/bin/env bash
#SBATCH --job-name=normlab
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-gpu=8
#SBATCH --signal=USR1@180
#SBATCH --requeue
#SBATCH --open-mode=append
# One run on all GPUs of the job's nodes, at the size of the paper: sharded weights, gradients and optimizer state.
# usage: sbatch [--nodes=N] scripts/torchrun_paper.sh [KEY=VALUE ...]
# On one node without Slurm: torchrun --standalone --nproc-per-node=8 -m normlab train scale=paper train.parallel=fsdp
#
# runs_dir and the data cache are to be on a file system that all nodes see. Before the time is up (--signal), and when
# the job is preempted, every process saves at the same step; the job then goes back into the queue and goes on from
# there, on as many nodes as it gets, as long as their GPUs divide train.batch_size. After a signal torchrun gives its
# processes 30 seconds. Not tried on a cluster yet: what was run is torchrun on one machine, without GPUs.
set -euo pipefail
gpus=${SLURM_GPUS_ON_NODE:-8}
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export OMP_NUM_THREADS=${SLURM_CPUS_PER_GPU:-8}

log=$(mktemp)
status=0
srun torchrun --nnodes="$SLURM_JOB_NUM_NODES" --nproc-per-node="$gpus" \
    --rdzv-id="$SLURM_JOB_ID" --rdzv-backend=c10d --rdzv-endpoint="$head:29500" \
    --signals-to-handle=SIGTERM,SIGINT,SIGUSR1 \
    -m normlab train scale=paper train.parallel=fsdp "$@" | tee "$log" || status=$?

# torchrun exits with 1 whatever its processes exited with; a run that was told to stop says so.
if [ "$status" -ne 0 ] && grep -q '^interrupted after step' "$log"; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
