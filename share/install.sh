#!/bin/sh
# Install rota, or take it away: share/install.sh install|data|uninstall, usually by way of make.
# data is for those who package rota and install its Python by other means: what is in share/, all below PREFIX.
# Reads DESTDIR, PREFIX, SYSCONFDIR, PYTHON and CHECK from the environment; see the Makefile.
set -eu
umask 022

cd "$(dirname "$0")/.."
: "${DESTDIR:=}" "${PREFIX:=/usr/local}" "${SYSCONFDIR:=/etc}" "${PYTHON:=/usr/bin/python3}" "${CHECK:=1}"
DESTDIR=${DESTDIR%/}
bin=$PREFIX/bin
lib=$PREFIX/lib/rota
doc=$PREFIX/share/doc/rota

# dbus-daemon reads policies below /usr and /etc only, polkit before 124 rules there only, and before 126
# actions nowhere but in /usr/share
polkit_actions=/usr/share/polkit-1/actions
case $PREFIX in
  /usr) dbus_policy=/usr/share/dbus-1/system.d polkit_rules=/usr/share/polkit-1/rules.d ;;
  *) dbus_policy=$SYSCONFDIR/dbus-1/system.d polkit_rules=$SYSCONFDIR/polkit-1/rules.d ;;
esac
if [ "${1:-}" = data ]; then
  dbus_policy=$PREFIX/share/dbus-1/system.d
  polkit_rules=$PREFIX/share/polkit-1/rules.d
  polkit_actions=$PREFIX/share/polkit-1/actions
fi

# NAME=MODULE: what is started by name, and whose main() it is
programs="rota=rota.cli rotad=rota.daemon rotad-metrics=rota.exporter rotad-notify=rota.notifier
  rota-agent=rota_agents rota-home-keeper=rota_agents.home_keeper.keeper
  rota-clean=rota_agents.home_keeper.cleaner.program rota-docker-proxy=rota_agents.home_keeper.proxy
  rotad-smart=rota_agents.home_keeper.smart"

fail() {
  printf 'install: %s\n' "$@" >&2
  exit 1
}

# where FILE of share/ goes; "-" if it is not installed
destination() {
  case $1 in
    install.sh | launcher.in) echo - ;;
    rota-probe) echo "$PREFIX/share/rota/rota-probe" ;;
    rotad.service) echo "$PREFIX/lib/systemd/system/rotad.service" ;;
    rotad-metrics.service) echo "$PREFIX/lib/systemd/system/rotad-metrics.service" ;;
    rotad-metrics-user.service) echo "$PREFIX/lib/systemd/user/rotad-metrics.service" ;;
    rotad-notify.service) echo "$PREFIX/lib/systemd/system/rotad-notify.service" ;;
    rotad-notify-user.service) echo "$PREFIX/lib/systemd/user/rotad-notify.service" ;;
    rota-clean@.service | rota-clean-preview@.service) echo "$PREFIX/lib/systemd/system/$1" ;;
    rotad-user.service) echo "$PREFIX/lib/systemd/user/rotad.service" ;;
    rota-home-keeper.service) echo "$PREFIX/lib/systemd/system/rota-home-keeper.service" ;;
    rota-keeper.sysctl) echo "$PREFIX/lib/sysctl.d/40-rota-keeper.conf" ;;
    rotad-smart.service | rotad-smart.timer) echo "$PREFIX/lib/systemd/system/$1" ;;
    rota-docker-proxy.service | rota-docker-proxy.socket) echo "$PREFIX/lib/systemd/system/$1" ;;
    rota.sysusers) echo "$PREFIX/lib/sysusers.d/rota.conf" ;;
    rota.tmpfiles) echo "$PREFIX/lib/tmpfiles.d/rota.conf" ;;
    org.rota1.conf | org.rota1.Keeper.conf | org.rota1.Notifier.conf) echo "$dbus_policy/$1" ;;
    org.rota1.service) echo "$PREFIX/share/dbus-1/system-services/org.rota1.service" ;;
    org.rota1.user.service) echo "$PREFIX/share/dbus-1/services/org.rota1.service" ;;
    *.policy) echo "$polkit_actions/$1" ;;
    *.rules) echo "$polkit_rules/$1" ;;
    completions/rota.bash) echo "$PREFIX/share/bash-completion/completions/rota" ;;
    completions/_rota) echo "$PREFIX/share/zsh/site-functions/_rota" ;;
    completions/rota.fish) echo "$PREFIX/share/fish/vendor_completions.d/rota.fish" ;;
    man/*.[1-8]) echo "$PREFIX/share/man/man${1##*.}/${1#man/}" ;;
    examples/* | grafana/* | prometheus/*) echo "$doc/$1" ;;
    *) fail "share/$1: no place is known for this file; add it to destination() in share/install.sh" ;;
  esac
}

shared_files() {
  find share -type f ! -name '*~' | sed 's|^share/||' | LC_ALL=C sort
}

# put SOURCE DESTINATION MODE [SED EXPRESSION...]
put() {
  source=$1 target=$DESTDIR$2 mode=$3
  shift 3
  mkdir -p "${target%/*}"
  sed -e "s|@bindir@|$bin|g" "$@" "$source" >"$target.new"
  chmod "$mode" "$target.new"
  mv -f "$target.new" "$target"
}

# put_package SOURCE NAME: a Python package without its tests
put_package() {
  rm -rf "$DESTDIR${lib:?}/$2"
  find "$1" -name __pycache__ -prune -o -name tests -prune -o -type f -print | while read -r file; do
    target=$DESTDIR$lib/$2/${file#"$1"/}
    mkdir -p "${target%/*}"
    install -m 644 "$file" "$target"
  done
}

check_python() {
  "$PYTHON" - <<'PYTHON_CODE' || exit 1
import sys
from importlib import import_module, metadata
from importlib.util import find_spec

wanted = {
    "apprise": ("apprise", (1, 2), "apprise", "apprise"),
    "dbus_next": ("dbus-next", (0, 2, 3), "python3-dbus-next", "python-dbus-next"),
    "prometheus_client": (
        "prometheus-client", (0, 16), "python3-prometheus-client", "python-prometheus_client"
    ),
    "pydantic": ("pydantic", (2, 4), "python3-pydantic", "python-pydantic"),
    "rich": ("rich", (13,), "python3-rich", "python-rich"),
    "systemd.journal": ("systemd-python", (235,), "python3-systemd", "python-systemd"),
}
# Home Keeper's checks of databases, other machines, names, GPUs and containers: it does without, and says so
useful = {
    "asyncpg": "python3-asyncpg",
    "asyncssh": "python3-asyncssh",
    "dns": "python3-dnspython",
    "docker": "python3-docker",
    "h11": "python3-h11",
    "pynvml": "python3-pynvml",
}
problems, debian, arch = [], [], []
if sys.version_info < (3, 11):
    problems.append(f"it is Python {sys.version.split()[0]}: rota needs 3.11 or newer")
for module, (name, minimum, on_debian, on_arch) in wanted.items():
    try:
        import_module(module)
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        numbers = tuple(int(part) for part in found.split(".") if part.isdigit())
        if numbers >= minimum:
            continue
        problems.append(f"{name} {found} is too old: rota needs {'.'.join(map(str, minimum))} or newer")
    except ImportError:
        problems.append(f"module {module} is missing")
    debian.append(on_debian)
    arch.append(on_arch)
if problems:
    print(f"install: {sys.executable} cannot run rota:", *problems, sep="\n  ", file=sys.stderr)
    if debian:
        print(
            "install: install these packages, or choose another interpreter with PYTHON=/path/to/python:",
            f"Debian:  apt install {' '.join(debian)}   (Debian 13 or newer for pydantic 2)",
            f"Fedora:  dnf install {' '.join(debian)}",
            f"Arch:    pacman -S {' '.join(arch)}",
            sep="\n  ",
            file=sys.stderr,
        )
    sys.exit(1)
absent = [package for module, package in useful.items() if find_spec(module) is None]
if absent:
    print(f"install: Home Keeper could make use of {', '.join(absent)} (Debian's names)", file=sys.stderr)
PYTHON_CODE
}

install_data() {
  shared_files | while read -r file; do
    target=$(destination "$file")
    [ "$target" = - ] || put "share/$file" "$target" 644
  done
}

install_all() {
  found=$(command -v "$PYTHON") || fail "no Python at PYTHON=$PYTHON; name one, 3.11 or newer"
  PYTHON=$found
  case $CHECK in 0) ;; *) check_python ;; esac
  shared_files | while read -r file; do destination "$file" >/dev/null; done
  for program in $programs; do
    name=${program%%=*}
    module=${program#*=}
    put share/launcher.in "$bin/$name" 755 \
      -e "s|@python@|$PYTHON|" -e "s|@libdir@|$lib|" -e "s|@module@|$module|"
  done
  put_package src/rota rota
  put_package agents rota_agents
  if [ -n "$DESTDIR" ]; then
    "$PYTHON" -m compileall -q -s "$DESTDIR" -p / "$DESTDIR$lib"
  else
    "$PYTHON" -m compileall -q "$lib"
  fi
  install_data
  echo "rota is installed in $DESTDIR$PREFIX."
  [ -n "$DESTDIR" ] || cat <<'NEXT'
Next, as root:
  systemd-sysusers && systemd-tmpfiles --create && systemctl restart systemd-sysctl
  busctl call org.freedesktop.DBus /org/freedesktop/DBus org.freedesktop.DBus ReloadConfig
  systemctl daemon-reload
  systemctl enable --now rotad
Then declare agents in /etc/rota/agents.d; rota(1) says how.
NEXT
}

# remove the empty directories of ours
prune() {
  [ ! -d "$DESTDIR$1" ] || find "$DESTDIR$1" -depth -type d -empty -delete
}

uninstall_all() {
  for program in $programs; do rm -f "$DESTDIR$bin/${program%%=*}"; done
  rm -rf "$DESTDIR${lib:?}/rota" "$DESTDIR${lib:?}/rota_agents"
  shared_files | while read -r file; do
    target=$(destination "$file")
    [ "$target" = - ] || rm -f "$DESTDIR$target"
  done
  prune "$doc"
  prune "$lib"
  echo "rota is removed from $DESTDIR$PREFIX; /etc/rota and /var/lib/rota are as they were."
  if [ -e "$DESTDIR/etc/systemd/system/rota-agents.target" ]; then
    echo "Agents are still installed, and their timers go on. To remove them:"
    echo "  grep -rl '^# Made by rota' /etc/systemd/system/rota* | xargs rm && systemctl daemon-reload"
  fi
}

case ${1:-} in
  install) install_all ;;
  data) install_data ;;
  uninstall) uninstall_all ;;
  *) fail "usage: share/install.sh install|data|uninstall" ;;
esac
