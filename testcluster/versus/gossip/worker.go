//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A worker is this same program once more, in network, mount and process
// namespaces made for it: inside, there is nothing but a loopback interface.
// It is process 1 in there, so that the kernel itself ends all that it started
// when it ends, and takes the namespaces away.

// insideEnv tells the program which part it plays.
const insideEnv = "PEER_VERSUS_INSIDE"

const (
	partWorker = "worker" // the job comes on stdin, samples go to stdout
	partHold   = "hold"   // hold a namespace
	partEnter  = "enter"  // enter a namespace and become another program
)

// runWorker does a job in namespaces of its own and returns its samples as they
// come; notes go to say.
func runWorker(ctx context.Context, j job, say func(string)) ([]sample, error) {
	if err := os.MkdirAll(j.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make directory: %w", err)
	}
	in, err := json.Marshal(j)
	if err != nil {
		return nil, fmt.Errorf("encode job: %w", err)
	}
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Env = append(os.Environ(), insideEnv+"="+partWorker)
	cmd.Stdin = strings.NewReader(string(in))
	var stderr strings.Builder
	cmd.Stderr = &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID,
		Pdeathsig:  syscall.SIGKILL, // should even this process be killed
		Setpgid:    true,            // ^C is for this process, which then ends the others
	}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start worker: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, explainStart(err)
	}
	var out []sample
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		var s sample
		if err := json.Unmarshal(lines.Bytes(), &s); err != nil {
			say("worker says: " + lines.Text())
			continue
		}
		if s.Row == "" {
			say(s.Note)
			continue
		}
		out = append(out, s)
	}
	err = cmd.Wait()
	if ctx.Err() != nil {
		return out, context.Cause(ctx)
	}
	if err != nil {
		return out, fmt.Errorf("%s, %s: %w: %s", j.Scenario, j.Product, err, strings.TrimSpace(stderr.String()))
	}
	return out, nil
}

func explainStart(err error) error {
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EINVAL) {
		return fmt.Errorf("make a network namespace: %w: run this as root (or allow user namespaces: sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone)", err)
	}
	return fmt.Errorf("start worker: %w", err)
}

// inside plays the part that insideEnv names and returns the exit code.
func inside(part string) int {
	var err error
	switch part {
	case partWorker:
		err = work(os.Stdin, os.Stdout)
	case partHold:
		err = hold(os.Stdin, os.Stdout)
	case partEnter:
		err = enter(os.Args[1], os.Args[2:])
	default:
		err = fmt.Errorf("no part %q", part)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// work does the job that is read from in.
func work(in io.Reader, out io.Writer) error {
	var j job
	if err := json.NewDecoder(in).Decode(&j); err != nil {
		return fmt.Errorf("read job: %w", err)
	}
	if err := isolate(); err != nil {
		return err
	}
	if err := renice(j.Nice); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), j.Limit, fmt.Errorf("took longer than %v", j.Limit))
	defer cancel()
	l, err := newLab(ctx, j, out)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(scenarios, func(s scenario) bool { return s.name == j.Scenario })
	if i < 0 {
		return fmt.Errorf("no scenario %q", j.Scenario)
	}
	return scenarios[i].run(l)
}

// isolate makes a /proc that knows the processes in here, and brings loopback up.
func isolate() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	return linkUp("lo")
}

// renice sets the niceness of this process. It is a thread's, and inherited by
// the threads and processes that a thread starts.
func renice(n int) error {
	if n == 0 {
		return nil
	}
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return fmt.Errorf("set niceness: %w", err)
	}
	for _, t := range threads {
		id, err := strconv.Atoi(t.Name())
		if err != nil {
			return fmt.Errorf("set niceness: %w", err)
		}
		if err := unix.Setpriority(unix.PRIO_PROCESS, id, n); err != nil {
			return fmt.Errorf("set niceness to %d: %w", n, err)
		}
	}
	return nil
}

// linkUp brings an interface up.
func linkUp(name string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("bring %s up: %w", name, err)
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq(name)
	if err != nil {
		return fmt.Errorf("bring %s up: %w", name, err)
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, req); err != nil {
		return fmt.Errorf("bring %s up: %w", name, err)
	}
	req.SetUint16(req.Uint16() | unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req); err != nil {
		return fmt.Errorf("bring %s up: %w", name, err)
	}
	return nil
}

// enter moves into the network namespace at path and becomes argv.
func enter(path string, argv []string) error {
	runtime.LockOSThread() // a namespace is a thread's; exec keeps that of the caller
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open namespace: %w", err)
	}
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter namespace: %w", err)
	}
	env := slices.DeleteFunc(os.Environ(), func(kv string) bool { return strings.HasPrefix(kv, insideEnv+"=") })
	return fmt.Errorf("become %s: %w", argv[0], unix.Exec(argv[0], argv, env))
}

// sane is checked before anything runs: a job that cannot work is told at once.
func sane(ctx context.Context, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	_, err := runWorker(ctx, job{Scenario: "nothing", Product: "bare", Dir: dir, Limit: 20 * time.Second}, func(string) {})
	return err
}
