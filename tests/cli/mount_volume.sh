#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# mount_volume.sh - 'kvs VERB mount:DIR' without a kernel: tests/kmod/mount_backend.sh against a mount that
# fake_mount.c plays.

set -euo pipefail
# shellcheck source=tests/tap.sh
. "${srcdir:?}/tests/tap.sh"

fake=
for f in "$builddir"/tests/cli/.libs/fake_mount.so "$builddir"/tests/cli/fake_mount.so; do
	[ ! -e "$f" ] || fake=$f
done
check 'the fake mount is built' test -n "$fake"
mkdir "$tmp/dir"
kvs create "$tmp/image.kv"
cat > "$tmp/kvs" << END
#!/bin/sh
LD_PRELOAD=$fake KVFS_FAKE_DIR=$tmp/dir KVFS_FAKE_IMAGE=$tmp/image.kv exec $builddir/kvs "\$@"
END
chmod +x "$tmp/kvs"

KVFS_FAKE=1 sh "$srcdir/tests/kmod/mount_backend.sh" "$tmp/dir" "$tmp/kvs" > "$tmp/results" 2>&1 || true
plan=
while IFS= read -r line; do
	case $line in
	'ok '*) ok "${line#* - }" ;;
	'not ok '*) not_ok "${line#* - }" ;;
	1..*) plan=${line#1..} ;;
	*) diag "${line#\#   }" ;;
	esac
done < "$tmp/results"
is 'mount_backend.sh came to its end' "$(grep -cE '^(not )?ok ' "$tmp/results")" "${plan:-none}"
check 'the image is clean' kvs check "$tmp/image.kv"
finish
