#!/usr/bin/env bash
# A real Slurm on this one machine, for trying things out: munge, a controller, a node. As root, without systemd.
# usage: scripts/slurm_single_node.sh start [FOLDER [CPUS]] | stop [FOLDER]
# It needs Debian's or Ubuntu's packages: apt install slurm-wlm munge
set -euo pipefail
folder=$(realpath -m "${2:-/tmp/slurm-single-node}")
conf=$folder/slurm.conf
host=$(hostname -s)

need() { command -v "$1" >/dev/null || { echo "error: no $1 here: apt install $2" >&2; exit 2; }; }

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

start() {
    need slurmctld slurm-wlm
    need munged munge
    [ "$(id -u)" = 0 ] || { echo "error: the daemons start as root" >&2; exit 2; }
    local cpus=${1:-$(nproc)}
    mkdir -p "$folder"/{state,spool,log}
    # Debian's munge makes its key when it is installed.
    install -d -o munge -g munge -m 755 /run/munge
    if ! munge --no-input >/dev/null 2>&1; then
        runuser -u munge -- /usr/sbin/munged --log-file=/var/log/munge/munged.log
        touch "$folder/munged.ours"
    fi

    cat > "$conf" <<CONF
ClusterName=single
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$(free_port)
SlurmdPort=$(free_port)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd.log
# No cgroups, which a container may not touch: a job's processes are found by their parents.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
SchedulerParameters=batch_sched_delay=1,sched_interval=5
# A requeued job waits until its credential has expired: two minutes, if nobody says otherwise.
AuthInfo=cred_expire=10
PriorityType=priority/basic
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=30
MinJobAge=60
NodeName=$host NodeAddr=127.0.0.1 CPUs=$cpus RealMemory=1000 State=UNKNOWN
PartitionName=main Nodes=$host Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=urgent Nodes=$host MaxTime=INFINITE State=UP PriorityTier=2
CONF
    export SLURM_CONF=$conf
    slurmctld -f "$conf"
    slurmd -f "$conf" -N "$host" 2>/dev/null || slurmd -f "$conf"
    for _ in $(seq 60); do
        sinfo --noheader --format %T 2>/dev/null | grep -q idle && { sinfo; echo "export SLURM_CONF=$conf"; return; }
        sleep 0.5
    done
    echo "error: the node does not get idle; see $folder/log" >&2
    tail -n 5 "$folder"/log/*.log >&2
    exit 1
}

stop() {
    local pids=()
    for daemon in slurmd slurmctld; do
        [ -s "$folder/$daemon.pid" ] && pids+=("$(cat "$folder/$daemon.pid")")
    done
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do  # a node that never got through to its controller does not listen
        for _ in $(seq 40); do kill -0 "$pid" 2>/dev/null || break; sleep 0.25; done
        kill -9 "$pid" 2>/dev/null || true
    done
    # One that was here before is left to whoever else uses it.
    if [ -e "$folder/munged.ours" ]; then
        kill "$(cat /run/munge/munged.pid)" 2>/dev/null || true
        rm "$folder/munged.ours"
    fi
    echo stopped
}

case "${1:-}" in
    start) start "${3:-}" ;;
    stop) stop ;;
    *) sed -n '2,4s/^# //p' "$0"; exit 2 ;;
esac
