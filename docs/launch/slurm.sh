#!/bin/bash
# sbatch slurm.sh
# A lost machine puts the job back into the queue, and so does the end of its time: it goes on from the last checkpoint.
#SBATCH --job-name dpo
#SBATCH --nodes 2
#SBATCH --ntasks-per-node 8
#SBATCH --gpus-per-node 8
#SBATCH --time 24:00:00
#SBATCH --signal TERM@300
#SBATCH --requeue
#SBATCH --open-mode append
set -uo pipefail
srun --kill-on-bad-exit=1 \
    align fit -c dpo -c multi_node --data PreferenceFileDataModule --data.path /shared/pairs.jsonl \
    -c qwen3_8b -c bfloat16_lora --trainer.default_root_dir /shared/runs/dpo
code=$?
if [ "$code" -eq 143 ]; then # saved after SIGTERM: there is more to do
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
