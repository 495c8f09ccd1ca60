//go:build unix

package guard

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Name is what a guard is called in the process list. A process called so hands
// its start to Main.
const Name = "lock-guard"

// pipesVar tells the guard which descriptors are its pipes. It is not in the
// command's environment.
const pipesVar = "PEER_LOCK_GUARD_PIPES"

// firstPipe is where the guard's pipes begin: beyond the numbers that people
// write in shell scripts, which the command inherits untouched. Where so many
// descriptors are not allowed it is lower.
var firstPipe = []int{100, 10, 3}

// launch starts the guard process and returns its process id. The guard is in a
// process group of its own, so that what kills the holder's group does not kill
// the guard before it has done its part.
func launch(cfg Config, orders, reports *os.File) (int, error) {
	self, err := executable()
	if err != nil {
		return 0, fmt.Errorf("find own executable: %w", err)
	}
	var nums []string
	for _, f := range []*os.File{orders, reports} {
		fd, err := place(f)
		if err != nil {
			return 0, fmt.Errorf("place the guard's pipe: %w", err)
		}
		defer unix.Close(fd)
		nums = append(nums, strconv.Itoa(fd))
	}
	stdin := uintptr(0)
	if cfg.Stdin != nil {
		stdin = cfg.Stdin.Fd()
	}
	// Below package os, because an os.File would change the mode of descriptors
	// that are not ours alone.
	pid, _, err := syscall.StartProcess(self, []string{Name, cfg.Title}, &syscall.ProcAttr{
		Env:   append(cfg.Env[:len(cfg.Env):len(cfg.Env)], pipesVar+"="+strings.Join(nums, ",")),
		Files: []uintptr{stdin, 1, 2},
		Sys:   &syscall.SysProcAttr{Setpgid: true},
	})
	if err != nil {
		return 0, fmt.Errorf("start the guard: %w", err)
	}
	return pid, nil
}

// place returns a copy of f that the guard inherits. The caller closes it.
func place(f *os.File) (fd int, err error) {
	for _, first := range firstPipe {
		if fd, err = unix.FcntlInt(f.Fd(), unix.F_DUPFD, first); !errors.Is(err, unix.EINVAL) {
			break
		}
	}
	return fd, err
}

// pipes takes the guard's own pipes out of its environment. The command must
// not inherit them: a copy that it held would hide the holder's death.
func pipes() (orders, reports *os.File, err error) {
	v := os.Getenv(pipesVar)
	os.Unsetenv(pipesVar)
	a, b, ok := strings.Cut(v, ",")
	in, err1 := strconv.Atoi(a)
	out, err2 := strconv.Atoi(b)
	if !ok || err1 != nil || err2 != nil {
		return nil, nil, fmt.Errorf("%s is started by `peer lock`, not by hand", Name)
	}
	for _, fd := range []int{in, out} {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO {
			return nil, nil, fmt.Errorf("%s is started by `peer lock`, not by hand", Name)
		}
		unix.CloseOnExec(fd)
	}
	return os.NewFile(uintptr(in), "orders"), os.NewFile(uintptr(out), "reports"), nil
}
