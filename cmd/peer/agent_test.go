package main

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// slowStopper takes as long as its channel says, whatever the context.
type slowStopper chan struct{}

func (s slowStopper) Stop(context.Context) error { <-s; return nil }

// The first signal asks for a graceful end, a second one ends it at once.
func TestSecondSignal(t *testing.T) {
	var errOut bytes.Buffer
	inv := &invocation{program: &program{stderr: &errOut}, Context: t.Context(), verb: agentVerb()}
	sigs := make(chan os.Signal, 2)
	stop := make(slowStopper)
	defer close(stop)
	sigs <- syscall.SIGHUP // asks for nothing here
	sigs <- syscall.SIGTERM
	err := inv.end(sigs, stop)
	var ec *exitCode
	if !errors.As(err, &ec) || ec.code != 143 {
		t.Errorf("got %v, want 143", err)
	}
	done := make(slowStopper)
	close(done)
	if err := inv.end(make(chan os.Signal), done); err != nil {
		t.Errorf("got %v, want a clean end", err)
	}
}

// systemd hears when the agent is ready, and when it stops.
func TestNotifiesSystemd(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	hear := func(want string) {
		t.Helper()
		b := make([]byte, 1024)
		_ = l.SetReadDeadline(time.Now().Add(20 * time.Second))
		n, err := l.Read(b)
		if err != nil || string(b[:n]) != want {
			t.Fatalf("got %q, %v, want %q", b[:n], err, want)
		}
	}
	cmd := exec.Command("peer", "agent", "--name", "solo", "--bind", "127.0.0.1:0", "--http", "none", "--socket", dir+"/s")
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+path, "PEER_CONFIG="+emptyFile(t))
	var errOut bytes.Buffer
	cmd.Stderr = &errOut
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	hear("READY=1")
	start := time.Now()
	_ = cmd.Process.Signal(syscall.SIGTERM)
	hear("STOPPING=1")
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v: %s", err, &errOut)
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("took %v to end", d)
	}
}

func TestCallMe(t *testing.T) {
	peer, err := exec.LookPath("peer")
	if err != nil {
		t.Fatal(err)
	}
	wd, _ := os.Getwd()
	for exe, want := range map[string]string{
		"/tmp/go-build123/b001/exe/peer":     "go run ./cmd/peer",
		"/root/.cache/go-build/4f/4f-d/peer": "go run ./cmd/peer",
		peer:                                 "peer",
		wd + "/bin/peer":                     "./bin/peer",
		filepath.Dir(wd) + "/other":          "../other",
		"/opt/a/b/c/peer":                    "/opt/a/b/c/peer",
	} {
		if got := callMe(exe); got != want {
			t.Errorf("%s: got %s, want %s", exe, got, want)
		}
	}
}

func TestNearest(t *testing.T) {
	all := []string{"agent", "lock", "locks", "members", "next", "o"}
	for word, want := range map[string]string{
		"membres": "members", "lcok": "lock", "locsk": "locks", "nxt": "next", "agents": "agent",
		"frobnicate": "", "x": "", "": "", "member": "members",
	} {
		if got := nearest(word, all); got != want {
			t.Errorf("%q: got %q, want %q", word, got, want)
		}
	}
}

func TestShort(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 820 * time.Millisecond: "820ms", 2500 * time.Millisecond: "2.5s", 42 * time.Second: "42s",
		5*time.Minute + 12*time.Second: "5m12s", 3*time.Hour + 59*time.Second: "3h0m", 76 * time.Hour: "3d4h", -time.Minute: "-1m0s",
	} {
		if got := short(d); got != want {
			t.Errorf("%v: got %s, want %s", d, got, want)
		}
	}
}

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"a\x1b[31mb\x07": "a[31mb", "a\u202eb": "ab", "a\xffb": "ab", "a\tb": "a\tb", "ü": "ü", "\u009b1m": "1m",
	} {
		if got := clean(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
	if got := cell(" a\n\tb "); got != "a b" {
		t.Errorf("got %q", got)
	}
	if got := cell("\x07"); got != "-" {
		t.Errorf("got %q", got)
	}
}

func TestCommandEnvironmentHasNoSecrets(t *testing.T) {
	for k, want := range map[string]bool{
		"PEER_REDIS_URL": true, "PEER_REDIS_PASSWORD": true, "PEER_HTTP_TOKEN": true, "PEER_GOSSIP_KEY": true,
		"PEER_REDIS_PASSWORD_FILE": false, "PEER_ENCRYPT_FILE": false, "PEER_NAME": false, "AWS_SECRET_KEY": false,
	} {
		if got := isSecret(k); got != want {
			t.Errorf("%s: got %v, want %v", k, got, want)
		}
	}
}
