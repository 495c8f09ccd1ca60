//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// agent is one process under measure.
type agent struct {
	spec
	viewer  viewer
	cmd     *exec.Cmd
	begun   time.Time // just before its start
	exited  chan struct{}
	logFile string
	mark    string
}

// start runs an agent; it does not wait until it answers. An agent of the same
// name that ran before keeps its log: the new one appends to it.
func (l *lab) start(s spec) (*agent, error) {
	s.Debug = l.job.Debug
	if s.Key == "" {
		s.Key = l.job.Key
	}
	cmd, err := l.product.command(s)
	if err != nil {
		return nil, err
	}
	if h := l.hosts[s.Host]; h != nil {
		h.enter(cmd)
	}
	a := &agent{
		spec: s, cmd: cmd, viewer: l.product.watch(s), exited: make(chan struct{}),
		logFile: filepath.Join(l.job.Dir, s.Name+".log"), mark: l.product.failedMark(),
	}
	log, err := os.OpenFile(a.logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(cmd.Env, "PATH="+os.Getenv("PATH"), "HOME="+l.job.Dir)
	a.begun = time.Now()
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", s.Name, err)
	}
	go func() {
		_ = cmd.Wait() // how it ended is in its log
		close(a.exited)
	}()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.agents = append(l.agents, a)
	return a, nil
}

func (a *agent) pid() int { return a.cmd.Process.Pid }

func (a *agent) signal(s syscall.Signal) {
	if err := syscall.Kill(a.pid(), s); err != nil && !errors.Is(err, syscall.ESRCH) {
		panic(fmt.Errorf("signal %s: %w", a.Name, err)) // the process is a child of ours
	}
}

// gone waits until the process has ended.
func (a *agent) gone(ctx context.Context) error {
	select {
	case <-a.exited:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s does not end: %w", a.Name, ctx.Err())
	}
}

func (a *agent) running() bool {
	select {
	case <-a.exited:
		return false
	default:
		return true
	}
}

// verdicts counts how often its log calls a member failed.
func (a *agent) verdicts() (int, error) {
	b, err := os.ReadFile(a.logFile)
	if err != nil {
		return 0, fmt.Errorf("read log: %w", err)
	}
	return bytes.Count(b, []byte(a.mark)), nil
}

// cpu returns the processor time that the process has used so far.
func (a *agent) cpu() (time.Duration, error) {
	// The kernel's per-process CPU clock, as clock_getcpuclockid(3) names it.
	clock := int32(^a.pid())<<3 | 2
	var ts unix.Timespec
	if err := unix.ClockGettime(clock, &ts); err != nil {
		return 0, fmt.Errorf("read CPU clock of %s: %w", a.Name, err)
	}
	return time.Duration(ts.Nano()), nil
}

// rss returns the resident memory of the process in bytes.
func (a *agent) rss() (int64, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(a.pid()) + "/status")
	if err != nil {
		return 0, fmt.Errorf("read memory of %s: %w", a.Name, err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "VmRSS:" {
			kb, err := strconv.ParseInt(f[1], 10, 64)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("read memory of %s: no VmRSS", a.Name)
}
