package testcluster

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

var built struct {
	once sync.Once
	dir  string
	path string
	err  error
}

// Binary returns the path of the peer binary: that of PEER_TEST_BINARY, or one
// built from this tree the first time it is asked for. A TestMain should end
// with [RemoveBinary].
func Binary(t testing.TB) string {
	t.Helper()
	if path := os.Getenv("PEER_TEST_BINARY"); path != "" {
		return path
	}
	built.once.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "peer-binary-"); built.err != nil {
			return
		}
		built.path = filepath.Join(built.dir, "peer")
		out, err := exec.Command("go", "build", "-o", built.path, "github.com/peerhq/peer/cmd/peer").CombinedOutput()
		if err != nil {
			built.err = fmt.Errorf("build peer: %w\n%s", err, out)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.path
}

// RemoveBinary removes what Binary has built.
func RemoveBinary() {
	if built.dir != "" {
		os.RemoveAll(built.dir)
	}
}

// cleanEnv is the environment without the settings of a peer.
func cleanEnv() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "PEER_") })
}

// Run runs peer beside n with these arguments, as a person on its host would,
// until it ends. It returns what it wrote and its exit code, -1 when it was
// killed by a signal.
func (n *Node) Run(args ...string) (stdout, stderr string, code int) {
	n.w.Helper()
	var out, errOut strings.Builder
	cmd := n.Command(args...)
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		n.w.Fatalf("run peer %s: %v", strings.Join(args, " "), err)
	}
	return out.String(), errOut.String(), cmd.ProcessState.ExitCode()
}

// Command is peer with these arguments, to be run beside n: it asks n's agent
// and locks in the world's Redis.
func (n *Node) Command(args ...string) *exec.Cmd {
	n.w.Helper()
	h, ok := n.host.(*processHost)
	if !ok {
		n.w.Fatal("this world has no processes")
	}
	cmd := h.command(args...)
	cmd.Env = append(cleanEnv(), "PEER_HTTP_ADDR=unix://"+h.socket(), "PEER_CONFIG="+h.config())
	if n.w.Redis != nil {
		cmd.Env = append(cmd.Env, "PEER_REDIS_URL=redis://"+n.w.Redis.Addr())
	}
	return cmd
}
