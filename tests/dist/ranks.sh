# What the tests of several processes share: source it. Builds `make MPI=1` with Open MPI, or with
# SPT_MPI=mpich its own variant with MPICH; says skip and exits where that is not installed.
. tests/field/lib.sh
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_btl=self,vader,tcp
plain=$spt
if [ "${SPT_MPI:-openmpi}" = mpich ]; then
    mpirun=mpirun.mpich rank_name=PMI_RANK variant=release-mpich
    mpi_make=(MPI=1 MPICC=mpicc.mpich)
    command -v mpicc.mpich >/dev/null && command -v $mpirun >/dev/null || {
        echo "skip $(basename "$0" .sh): MPICH is missing (Debian: mpich libmpich-dev)"
        exit 0
    }
else
    mpirun=mpirun rank_name=OMPI_COMM_WORLD_RANK variant=release-mpi
    command -v mpirun.openmpi >/dev/null && mpirun=mpirun.openmpi
    mpi_make=(MPI=1)
    if ! command -v $mpirun >/dev/null || ! pkg-config --exists ompi-c 2>/dev/null; then
        echo "skip $(basename "$0" .sh): mpirun or Open MPI's headers are missing (Debian: openmpi-bin libopenmpi-dev)"
        exit 0
    fi
fi
make -s -j"$(nproc)" "${mpi_make[@]}" SAN= DEBUG= build/$variant/spt >"$dir/make" 2>&1 </dev/null ||
    { bad build_with_mpi "$(tail -n 5 "$dir/make")"; finish; }
spt=build/$variant/spt

ranks() { # N COMMAND...
    local n=$1
    shift
    timeout "${RANKS_SECONDS:-120}" $mpirun -n "$n" "$@" </dev/null
}
# What a run leaves, without times and addresses.
same_run() { # NAME A B
    "$plain" convert "$2" "$dir/a.npy" --quiet 2>/dev/null; "$plain" convert "$3" "$dir/b.npy" --quiet 2>/dev/null
    expect "$1_prompt" cmp "$dir/a.npy" "$dir/b.npy"
    rm -f "$dir/a.npy" "$dir/b.npy"
    expect "$1_steps" cmp "$2/train.jsonl" "$3/train.jsonl"
    expect "$1_evaluations" cmp "$2/eval.jsonl" "$3/eval.jsonl"
}
# Process of a rank of a job whose command line holds a text.
rank_pid() { # TEXT RANK
    local p
    for p in $(pgrep -f -- "$1"); do
        [ "$(cat "/proc/$p/comm" 2>/dev/null)" = spt ] &&
            tr '\0' '\n' 2>/dev/null <"/proc/$p/environ" | grep -qx "$rank_name=$2" && echo "$p"
    done
}
# until_true SECONDS COMMAND...
until_true() {
    local n=$(($1 * 10))
    shift
    while ! "$@" >/dev/null 2>&1; do
        [ $((n -= 1)) -gt 0 ] || return 1
        sleep 0.1
    done
}
