# shellcheck shell=bash
# Shared by the scripts: saying what happens, becoming root, installing what is missing.

say() { printf '%s\n' "==> $*" >&2; }

die() { printf '%s\n' "error: $*" >&2; exit 1; }

# Runs a command as root: directly, or by sudo.
as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"; return; fi
  command -v sudo >/dev/null 2>&1 || die "this needs root: run it as root or install sudo"
  sudo "$@"
}

# Installs those of the named Debian packages that are missing, and says which. Reads dpkg's database once, so that
# nothing missing costs milliseconds.
ensure_packages() {
  local missing=() package
  for package in "$@"; do
    dpkg-query --show --showformat='${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed ||
      missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  say "installing with apt: ${missing[*]}"
  if ! as_root env DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet=2 --no-install-recommends \
    "${missing[@]}" >/dev/null 2>&1; then
    # A fresh machine has no package lists yet, or old ones.
    as_root apt-get update --quiet=2 || say "apt-get update reported problems; going on"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet=2 --no-install-recommends \
      "${missing[@]}" >&2 || die "apt could not install: ${missing[*]}"
  fi
}

# Installs a package that brings a service along, but keeps the service from being started: a test starts its own. The
# package may have another name than its service.
ensure_idle_service() {
  local package=${2:-$1} unit=/etc/systemd/system/$1.service
  if [ -d /run/systemd/system ] && [ ! -e "$unit" ] &&
    ! dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed; then
    as_root ln -s /dev/null "$unit"
  fi
  ensure_packages "$package"
}

# Installs the Docker engine and its client.
ensure_engine() {
  local packages=(docker.io iptables)
  if { command -v dockerd && command -v docker; } >/dev/null 2>&1; then return 0; fi
  # Debian 13 ships the client as a package of its own.
  if ! command -v docker >/dev/null 2>&1 && apt-cache show docker-cli >/dev/null 2>&1; then packages+=(docker-cli); fi
  ensure_packages "${packages[@]}"
}

# Makes sure that there is a cargo, by rustup from Debian's or Ubuntu's packages.
ensure_rust() {
  # For a shell that rustup's installer has not reached yet.
  PATH=$PATH:$HOME/.cargo/bin
  # Some of what we build is C.
  ensure_packages gcc libc6-dev
  if cargo --version >/dev/null 2>&1; then return 0; fi
  command -v rustup >/dev/null 2>&1 || install_rustup
  say "installing the Rust toolchain with rustup"
  rustup toolchain install stable --profile minimal --component clippy --component rustfmt >&2
  rustup default stable >&2
}

# Debian 13 and Ubuntu 24.04 package rustup; Debian 12 does not, so its own installer is used there.
install_rustup() {
  as_root apt-get update --quiet=2 || true
  if apt-cache show rustup >/dev/null 2>&1; then
    ensure_packages rustup
    return 0
  fi
  ensure_packages ca-certificates curl
  say "installing rustup with its own installer"
  curl --proto '=https' --tlsv1.2 --silent --show-error --fail https://sh.rustup.rs |
    sh -s -- -y --profile minimal --component clippy --component rustfmt --no-modify-path >&2
}

# Prints where cargo puts what it builds.
target_directory() {
  local repository
  repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
  echo "${CARGO_TARGET_DIR:-$repository/target}"
}

# Makes sure of the Python packages that the suites against the proxy need, where its tests look for them.
ensure_conformance() {
  local folder wanted=e2e/conformance/requirements.txt
  folder=$(target_directory)/tmp/conformance
  if cmp --silent "$wanted" "$folder/requirements.txt"; then return 0; fi
  ensure_packages python3 python3-venv
  say "installing what e2e/conformance needs, with pip"
  mkdir -p "$(dirname "$folder")"
  python3 -m venv --clear "$folder" >&2
  "$folder/bin/pip" install --quiet --disable-pip-version-check --requirement "$wanted" >&2 ||
    die "pip could not install what $wanted names"
  cp "$wanted" "$folder/requirements.txt"
}

# Makes sure of a tool that cargo installs, at the version given when it is missing.
ensure_cargo_tool() {
  local tool=$1 version=$2
  if command -v "$tool" >/dev/null 2>&1; then return 0; fi
  say "installing $tool $version with cargo (some minutes, once)"
  cargo install --quiet --locked --version "$version" "$tool" >&2 || die "cargo could not install $tool"
}

# Prints where script/build puts the static executables.
release_directory() {
  local host
  host=$(rustc --version --verbose | sed -n 's/^host: //p')
  echo "$(target_directory)/$host/release"
}
