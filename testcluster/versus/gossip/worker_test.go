//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain lets the test program be its own workers.
func TestMain(m *testing.M) {
	if part := os.Getenv(insideEnv); part != "" {
		scenarios = append(scenarios,
			scenario{name: "look around", run: lookAround},
			scenario{name: "leave something", run: leaveSomething},
			scenario{name: "two hosts", run: twoHosts})
		os.Exit(inside(part))
	}
	os.Exit(m.Run())
}

// try runs a scenario of TestMain's and returns its notes.
func try(ctx context.Context, t *testing.T, name string) ([]string, error) {
	t.Helper()
	var notes []string
	_, err := runWorker(ctx, job{Scenario: name, Product: "bare", Dir: t.TempDir(), Limit: time.Minute}, func(s string) { notes = append(notes, s) })
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) {
		t.Skipf("NOT TESTED: this user may not make namespaces here: %v", err)
	}
	return notes, err
}

func lookAround(l *lab) error {
	b, err := os.ReadFile("/proc/net/dev")
	if err != nil {
		return err
	}
	l.note("pid %d, %d interfaces", os.Getpid(), strings.Count(string(b), ":"))
	return nil
}

// A worker is alone: process 1, with a loopback interface and nothing else.
func TestWorkerIsAlone(t *testing.T) {
	notes, err := try(t.Context(), t, "look around")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(notes, "; "), "pid 1, 1 interfaces"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// leaveSomething starts a process that would outlive everybody, and tells where
// it can be seen: it holds a file open.
func leaveSomething(l *lab) error {
	f, err := os.Create(l.job.Dir + "/fifo")
	if err != nil {
		return err
	}
	cmd := exec.Command("sleep", "3600")
	cmd.ExtraFiles = []*os.File{f}
	if err := cmd.Start(); err != nil {
		return err
	}
	l.note("%s", f.Name())
	return l.wait(time.Hour)
}

// Whatever a worker has started ends with it.
func TestNothingIsLeft(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var file string
	_, err := runWorker(ctx, job{Scenario: "leave something", Product: "bare", Dir: t.TempDir(), Limit: time.Minute}, func(s string) {
		file = s
		if n := holders(t, s); n != 2 {
			t.Errorf("%d processes hold %s open, want the worker and what it started", n, s)
		}
		cancel()
	})
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) {
		t.Skipf("NOT TESTED: this user may not make namespaces here: %v", err)
	}
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want it cancelled", err)
	}
	if n := holders(t, file); n != 0 {
		t.Errorf("%d processes still hold %s open", n, file)
	}
}

// holders counts the processes that have file open.
func holders(t *testing.T, file string) int {
	t.Helper()
	procs, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, p := range procs {
		fds, _ := os.ReadDir("/proc/" + p.Name() + "/fd")
		for _, fd := range fds {
			if to, _ := os.Readlink("/proc/" + p.Name() + "/fd/" + fd.Name()); to == file {
				n++
				break
			}
		}
	}
	return n
}

// twoHosts has one host ask the other something before, during and after a cut.
func twoHosts(l *lab) error {
	specs, err := l.hostSpecs(2)
	if err != nil {
		return err
	}
	a, b := []*agent{{spec: specs[0]}}, []*agent{{spec: specs[1]}}
	ask := func() string {
		// Nobody listens, so a host that is reached refuses.
		cmd := exec.Command("/bin/sh", "-c", fmt.Sprintf("timeout 1 bash -c 'echo > /dev/tcp/%s/9' 2>&1", specs[1].Host))
		l.hosts[specs[0].Host].enter(cmd)
		cmd.Env = append(cmd.Env, "PATH="+os.Getenv("PATH"))
		out, _ := cmd.CombinedOutput()
		if strings.Contains(string(out), "refused") {
			return "reached"
		}
		return "silent"
	}
	l.note("%s", ask())
	if err := l.cut(a, b); err != nil {
		return err
	}
	l.note("%s", ask())
	if err := l.mend(); err != nil {
		return err
	}
	l.note("%s", ask())
	return nil
}

func TestCut(t *testing.T) {
	for _, tool := range []string{"ip", "nft", "bash", "timeout"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("NOT TESTED: there is no %s here", tool)
		}
	}
	notes, err := try(t.Context(), t, "two hosts")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(notes, ", "), "reached, silent, reached"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
