package main

import (
	"bufio"
	"bytes"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// returnPages takes the pages of this program's own file out of the process. They
// are the kernel's cache, read-only, and whichever is needed comes back by itself.
// What stays away is what only the start ran through, the packages' initializers
// above all: a third of what a small agent holds.
//
// A mapping of which a page was written, as the loader does in a build that is
// position-independent, is left alone: the file does not have what is in it.
func returnPages() error {
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return err
	}
	var from, to uintptr // the mapping that is being read, if it is one of the program's
	for s := bufio.NewScanner(bytes.NewReader(smaps)); s.Scan(); {
		f := strings.Fields(s.Text())
		if len(f) == 0 {
			continue
		}
		if start, end, ok := strings.Cut(f[0], "-"); ok {
			from, to = 0, 0
			if len(f) > 5 && !strings.Contains(f[1], "w") && strings.HasSuffix(s.Text(), " "+exe) {
				a, errA := strconv.ParseUint(start, 16, 64)
				b, errB := strconv.ParseUint(end, 16, 64)
				if errA == nil && errB == nil {
					from, to = uintptr(a), uintptr(b)
				}
			}
			continue
		}
		if f[0] != "Anonymous:" || len(f) < 2 || f[1] != "0" || from == to {
			continue
		}
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, from, to-from, unix.MADV_DONTNEED); errno != 0 {
			return os.NewSyscallError("madvise", errno)
		}
	}
	return nil
}
