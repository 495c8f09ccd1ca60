package guard

import (
	"bytes"
	"errors"
	"os"
	"strconv"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	getTermios = unix.TCGETS

	// subreaper: a process without children has no descendants either.
	subreaper = true
)

// executable is this program, also when its file has been replaced or removed.
func executable() (string, error) { return "/proc/self/exe", nil }

// clock is the time since boot in nanoseconds, suspension included.
func clock() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	}
	return ts.Nano()
}

// replaceFile makes fd the same open file as from.
func replaceFile(from, fd int) error { return unix.Dup3(from, fd, 0) }

// nameProcess sets the name that ps and pkill know this process by.
func nameProcess(name string) {
	b, err := unix.BytePtrFromString(name)
	if err == nil {
		_ = unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(b)), 0, 0, 0)
	}
}

// becomeSubreaper makes orphaned descendants children of this process.
func becomeSubreaper() error { return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }

// commandAttr puts the command in a process group of its own, and has the
// kernel kill it when the thread that starts it ends.
func commandAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// signalDescendants sends sig to every descendant that is not in group, which
// gets its signals otherwise.
func signalDescendants(sig syscall.Signal, group int) {
	for _, p := range descendants() {
		if p.group != group {
			_ = syscall.Kill(p.pid, sig)
			if sig == syscall.SIGTERM {
				_ = syscall.Kill(p.pid, syscall.SIGCONT)
			}
		}
	}
}

// killDescendants kills and reaps until nothing is below this process. It takes
// every child's status for itself: no other waiting may go on.
func killDescendants() {
	for {
		signalDescendants(syscall.SIGKILL, -1)
		for {
			pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
			if errors.Is(err, syscall.EINTR) {
				continue
			}
			if err != nil {
				return // no child, and with it no descendant: orphans are ours
			}
			if pid == 0 {
				break
			}
		}
		time.Sleep(tick)
	}
}

type process struct{ pid, parent, group int }

// descendants lists what lives below this process. It reads /proc once; what is
// forked meanwhile is found by the next reading.
func descendants() []process {
	d, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	names, _ := d.Readdirnames(-1)
	d.Close()
	byParent := make(map[int][]process)
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + name + "/stat")
		if err != nil {
			continue
		}
		// pid (comm) state ppid pgrp …; comm may hold anything, also ")".
		end := bytes.LastIndexByte(stat, ')')
		f := bytes.Fields(stat[max(end, 0)+1:])
		if end < 0 || len(f) < 3 {
			continue
		}
		parent, _ := strconv.Atoi(string(f[1]))
		group, _ := strconv.Atoi(string(f[2]))
		byParent[parent] = append(byParent[parent], process{pid, parent, group})
	}
	var out []process
	next := []int{os.Getpid()}
	for len(next) > 0 {
		kids := byParent[next[0]]
		next = next[1:]
		for _, k := range kids {
			out = append(out, k)
			next = append(next, k.pid)
		}
	}
	return out
}
