# Sourced by docker/build and docker/run: which engine, which device.
# ENGINE=docker|podman and GPU=all|none decide what is otherwise detected. Everything is said on stderr.

say() { echo "${0##*/}: $*" >&2; }
fail() { say "$*"; exit 2; }

# The command of an engine that answers: docker without its daemon is no engine.
find_engine() {
    local one
    for one in ${ENGINE:-docker podman}; do
        if command -v "$one" >/dev/null && "$one" info >/dev/null 2>&1; then
            echo "$one"
            return
        fi
    done
    fail "neither docker nor podman works here; fix: start docker's daemon, or install podman" \
        "('docker info' and 'podman info' say what is wrong)"
}

# all or none.
find_gpu() {
    case ${GPU:-} in
        all | none) echo "$GPU"; return ;;
        "") ;;
        *) fail "GPU=$GPU: say all or none" ;;
    esac
    local names
    if command -v nvidia-smi >/dev/null && names=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null) \
        && [ -n "$names" ]; then
        say "host GPU: $(echo "$names" | paste -sd, -)"
        echo all
    else
        say "no NVIDIA GPU answers on this host: CPU"
        echo none
    fi
}

# The image's name for a device: all -> cuda, none -> cpu.
image_for() {
    local variant=cpu
    [ "$1" = none ] || variant=cuda
    echo "${IMAGE:-localhost/isotherm:${VARIANT:-$variant}}"
}
