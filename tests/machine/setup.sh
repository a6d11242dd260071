#!/bin/sh
# Check for the Debian packages that building and testing rota need, and install what is missing.
# usage: setup.sh [build|all|vm]      (PYTHON names the interpreter the virtual environment is made from)
set -eu

python=${PYTHON:-python3}
missing=""

need() { # need PACKAGE...
  for package in "$@"; do
    case $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true) in
      installed) ;;
      *) missing="$missing $package" ;;
    esac
  done
}

need_unless() { # need_unless PACKAGE COMMAND...: whatever provides it, Debian's or not
  package=$1
  shift
  "$@" >/dev/null 2>&1 || missing="$missing $package"
}

if ! command -v dpkg-query >/dev/null; then
  absent=""
  for command in "$python" cc pkg-config dbus-daemon systemd-nspawn mmdebstrap nsenter setpriv; do
    command -v "$command" >/dev/null || absent="$absent $command"
  done
  pkg-config --exists libsystemd 2>/dev/null || absent="$absent libsystemd.pc"
  [ -n "$absent" ] || exit 0
  echo "setup: not a Debian system, and these are missing:$absent" >&2
  echo "setup: install them with your package manager (libsystemd.pc is in its systemd development package)." >&2
  exit 1
fi

need_unless python3 "$python" -c 'import sys; assert sys.version_info >= (3, 11)'
need_unless python3-venv "$python" -c 'import ensurepip, venv'
need_unless python3-dev "$python" -c \
  'import pathlib, sysconfig; pathlib.Path(sysconfig.get_path("include"), "Python.h").stat()'
need gcc libc6-dev libsystemd-dev pkg-config
if [ "${1:-all}" = vm ]; then
  need qemu-system-x86 e2fsprogs
fi
if [ "${1:-all}" != build ]; then
  need_unless docker.io command -v dockerd
  need_unless busybox-static sh -c 'busybox --list | grep -qx tail && ! ldd "$(command -v busybox)"'
  need dbus dbus-daemon debian-archive-keyring mmdebstrap systemd-container util-linux
fi

# Not installed, because Debian's packages start services: prometheus listens on port 9090, smartd asks drives.
unpack() { # unpack PACKAGE PROGRAM
  place=$(dirname "$0")/../../.cache/$1
  if command -v "$2" >/dev/null || [ -e "$place/usr" ]; then
    return 0
  fi
  mkdir -p "$place"
  if (cd "$place" && apt-get download -qq "$1" && dpkg-deb -x "$1"_*.deb . && rm "$1"_*.deb); then
    echo "setup: $2 is in .cache/$1"
  else
    echo "setup: $2 cannot be had from Debian: tests that ask it are skipped" >&2
  fi
}

unpack_programs() {
  [ "${1:-all}" = all ] || return 0
  unpack prometheus promtool
  unpack smartmontools smartctl
}

if [ -z "$missing" ]; then
  echo "setup: all Debian packages needed are installed"
  unpack_programs "$@"
  exit 0
fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "setup: missing Debian packages; install them as root with:" >&2
  echo "  apt-get install --no-install-recommends$missing" >&2
  exit 1
fi
echo "setup: installing$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086
apt-get install -qq -y --no-install-recommends $missing
unpack_programs "$@"
