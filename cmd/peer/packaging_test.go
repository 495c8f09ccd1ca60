package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/peerhq/peer/agent"
	"github.com/peerhq/peer/testcluster"
)

// The unit starts an agent that exists, and waits as long as a goodbye takes.
func TestUnit(t *testing.T) {
	unit, err := os.ReadFile("packaging/systemd/peer.service")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"Type=notify", "TimeoutStopSec=10s", "RestartPreventExitStatus=64 78", "NoNewPrivileges=yes"} {
		if !strings.Contains(string(unit), "\n"+line+"\n") {
			t.Errorf("no line %s", line)
		}
	}
	start := regexp.MustCompile(`(?m)^ExecStart=/usr/bin/peer (.*)$`).FindSubmatch(unit)
	if start == nil {
		t.Fatal("no ExecStart")
	}
	cmd := exec.Command("peer", append(strings.Fields(string(start[1])), "--help")...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	// The settings that come with it.
	cfg, err := agent.ReadConfigFile("packaging/systemd/peer.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if cfg.DataDir != "/var/lib/peer" || cfg.HTTP.Socket != "/run/peer/peer.sock" {
		t.Errorf("got %+v", cfg)
	}
}

// bash completes what the binary says, and behind `--` it asks nobody: that
// command line would be a command.
func TestBashCompletion(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		testcluster.Unavailable(t, "bash", err.Error())
	}
	complete := func(words ...string) []string {
		t.Helper()
		script := `source packaging/completion/peer.bash; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _peer; printf '%s\n' "${COMPREPLY[@]}"`
		cmd := exec.Command(bash, append([]string{"--norc", "-c", script, "bash"}, words...)...)
		cmd.Env = append(os.Environ(), "PEER_HTTP_ADDR="+freeAddr(), "PEER_CONFIG="+emptyFile(t))
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %v", words, err)
		}
		return strings.Fields(string(out))
	}
	for _, c := range []struct {
		words []string
		want  string
	}{
		{[]string{"peer", "memb"}, "members"},
		{[]string{"peer", "config", "v"}, "validate"},
		{[]string{"peer", "members", "--stat"}, "--state"},
		{[]string{"peer", "members", "--state", "sus"}, "suspect"},
		{[]string{"peer", "lock", "--ex"}, "--exit-on-timeout"},
		{[]string{"peer", "lock", "demo", "--", "mkfif"}, "mkfifo"},
	} {
		if got := complete(c.words...); len(got) != 1 || got[0] != c.want {
			t.Errorf("%v: got %q, want %s", c.words, got, c.want)
		}
	}
	// A peer that leaves a mark when it is asked anything.
	dir := t.TempDir()
	mark := filepath.Join(dir, "asked")
	fake := filepath.Join(dir, "peer")
	if err := os.WriteFile(fake, []byte("#!/bin/sh\necho \"$@\" >"+mark+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	complete(fake, "lock", "demo", "--", "touch", "x")
	if b, err := os.ReadFile(mark); err == nil {
		t.Errorf("behind -- peer was asked: %s", bytes.TrimSpace(b))
	}
	complete(fake, "lock", "dem")
	if _, err := os.ReadFile(mark); err != nil {
		t.Error("before -- peer was not asked")
	}
}
