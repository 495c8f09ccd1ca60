package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/peerhq/peer/agent/api"
)

// The reader of an agent's log stalls, and then goes away. The agent answers
// all the while, tells how much of its log was lost, and ends as it should.
func TestAgentOutlivesTheReaderOfItsLog(t *testing.T) {
	dir := t.TempDir()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.Command("peer", "agent", "--name", "solo", "--bind", "127.0.0.1:0", "--http", "none", "--socket", dir+"/s")
	cmd.Env = append(os.Environ(), "PEER_CONFIG="+emptyFile(t))
	cmd.Stderr = w
	// Full before the agent writes its first line.
	if err := w.SetWriteDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = w.Write(make([]byte, 1024))
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	defer cmd.Process.Kill() //nolint:errcheck // it has ended, but for a test that failed

	agent, err := api.NewClient(dir + "/s")
	if err != nil {
		t.Fatal(err)
	}
	// until waits for a status that f likes; the agent writes a line each time.
	until := func(what string, f func(api.Status) bool) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			select {
			case err := <-ended:
				t.Fatalf("%s: the agent has ended: %v", what, err)
			default:
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			s, err := agent.Status(ctx)
			cancel()
			if err == nil && f(s) {
				return
			}
			if err == nil { // it handles signals by now
				_ = cmd.Process.Signal(syscall.SIGHUP)
			}
		}
		t.Fatalf("not seen: %s", what)
	}
	answers := 0
	until("it answers while nobody reads", func(api.Status) bool { answers++; return answers > 20 })
	r.Close()
	until("it tells that nobody reads", func(s api.Status) bool {
		for _, w := range s.Warnings {
			if w.Code == "log_dropped" && strings.Contains(w.Text, "were dropped") {
				return true
			}
		}
		return false
	})
	_ = cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("it ended with %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("it does not end")
	}
}
