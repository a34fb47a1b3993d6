#!/bin/bash
# An archive on Slurm's CPUs: as many tasks as you like, on one shared folder, each of which begins elsewhere in it.
#
#   ARCHIVE=/shared/films OUT=/shared/colored sbatch slurm.sh [more of `autochrome batch`: --model fast ...]
#
# Change what stands here, or say it to sbatch, which has the last word (sbatch --array=0-31 --time=24:00:00 slurm.sh):
#SBATCH --job-name=autochrome
#SBATCH --array=0-7                 # tasks, and how many machines work at once at most
#SBATCH --cpus-per-task=4
#SBATCH --mem=8G
#SBATCH --time=08:00:00             # a task at its end goes to the queue again, so short ones are fine
##SBATCH --partition=compute        # and --account, where your cluster wants them: take one # away
#SBATCH --output=autochrome-%A-%a.log
# Leave these: who is told to stop a minute before the limit ends a segment, and is queued again to go on.
#SBATCH --signal=B:USR1@60
#SBATCH --requeue
#SBATCH --open-mode=append

archive=${ARCHIVE:-/shared/films}          # the films; only read
out=${OUT:-/shared/colored}                # the results, and in .autochrome what is known of them
autochrome=${AUTOCHROME:-autochrome}       # the program, where it is on no task's path
task=${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}

# USR1 comes from --signal, to this shell alone, and is passed on once. TERM comes where Slurm ends the task (scancel,
# preemption, requeue), and to every process of it: the worker has it already.
stop() {
  interrupted=yes
  [ "$told" ] || kill -TERM "$worker"
  told=yes
}
told=
trap stop USR1
trap 'interrupted=yes' TERM

"$autochrome" batch "$archive" -o "$out" --shard auto --threads "${SLURM_CPUS_PER_TASK:-1}" --grace 25 "$@" &
worker=$!
echo "task $task on $SLURMD_NODENAME, start $((${SLURM_RESTART_COUNT:-0} + 1))"

# A signal ends `wait`, not the worker.
interrupted=yes
while [ "$interrupted" ]; do
  interrupted=
  wait "$worker"
  code=$?
done

# 75: work is left. 143: told to stop before it could listen. COMPLETING: Slurm is ending the task itself, and either has
# queued it again already, or nobody wants it any more.
if [ "$code" = 75 ] || [ "$code" = 143 ]; then
  state=$(squeue --noheader --jobs="$task" --format=%T)
  if [ "$state" != COMPLETING ]; then
    echo "task $task: work is left, it goes to the queue again"
    scontrol requeue "$task" && exit 0
  fi
fi
echo "task $task: exit code $code${state:+, $state}"
exit "$code"
