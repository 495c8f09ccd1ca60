package testcluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/peerhq/peer/agent/api"
)

// Processes runs a scenario with real binaries on ports of 127.0.0.1 that are
// free, and a real redis-server if there is one. Its hosts cannot lose power or
// be cut off.
func Processes(t *testing.T, scenario func(*World)) {
	t.Helper()
	Binary(t)
	w := &World{TB: t, Name: "processes", machines: processes{t, shortDir(t)}}
	t.Cleanup(w.end)
	scenario(w)
}

type processes struct {
	t   *testing.T
	dir string // removed after all processes have ended
}

// shortDir is t.TempDir with a path that is short enough for a unix socket.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "peer-world-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func (p processes) host(n *Node) host {
	h := newProcessHost(p.t, p.dir, n)
	h.ip, h.port = "127.0.0.1", FreePort()
	return h
}

func (p processes) redis() Redis         { return StartAnyRedis(p.t) }
func (p processes) cut([]*Node, []*Node) { p.t.Fatal("this world has one network that cannot be cut") }

func (p processes) isolate(*Node) { p.t.Fatal("this world has one network that cannot be cut") }
func (p processes) heal()         {}

// processHost is a place for one peer process.
type processHost struct {
	t        *testing.T
	dir      string // short: a unix socket lies in it
	ip, port string
	veth     string             // in a namespace: its port in the switch
	cable    func(plugged bool) // nil where it cannot be pulled
	wrap     []string           // what comes before the command line
	cmd      *exec.Cmd
	ended    chan struct{} // closed when cmd has been waited for
}

func newProcessHost(t *testing.T, parent string, n *Node) *processHost {
	t.Helper()
	if old, ok := n.host.(*processHost); ok {
		return &processHost{t: t, dir: old.dir}
	}
	dir, err := os.MkdirTemp(parent, "")
	if err != nil {
		t.Fatal(err)
	}
	h := &processHost{t: t, dir: dir}
	if err := os.WriteFile(h.config(), []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *processHost) socket() string  { return filepath.Join(h.dir, "peer.sock") }
func (h *processHost) config() string  { return filepath.Join(h.dir, "peer.yaml") }
func (h *processHost) hosts() string   { return filepath.Join(h.dir, "hosts") } // its /etc/hosts, in a namespace
func (h *processHost) logFile() string { return filepath.Join(h.dir, "log") }
func (h *processHost) addr() string    { return net.JoinHostPort(h.ip, h.port) }

func (h *processHost) command(args ...string) *exec.Cmd {
	line := append(append(append([]string{}, h.wrap...), Binary(h.t)), args...)
	return exec.Command(line[0], line[1:]...)
}

func (h *processHost) start(n *Node, s Spec) (*api.Client, error) {
	if s.Config != nil || s.FS != nil || s.ClockOffset != 0 {
		h.t.Fatal("a process has no seams")
	}
	if h.cable != nil {
		h.cable(true)
	}
	args := []string{
		"agent", "--config", h.config(), "--name", s.Name, "--gossip-insecure",
		"--http", "none", "--socket", h.socket(), "--data-dir", filepath.Join(h.dir, "data"),
	}
	if s.Bind == "" {
		s.Bind = h.addr()
	}
	args = append(args, "--bind", s.Bind)
	if s.Advertise != "" {
		args = append(args, "--advertise", s.Advertise)
	}
	for _, j := range s.Join {
		args = append(args, "--join", j)
	}
	for k, v := range s.Tags {
		args = append(args, "--tag", k+"="+v)
	}
	if s.Redis {
		args = append(args, "--redis", "redis://"+n.w.StartRedis().Addr())
	}
	log, err := os.OpenFile(h.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		h.t.Fatal(err)
	}
	defer log.Close()
	cmd := h.command(args...)
	cmd.Env = cleanEnv()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ended := make(chan struct{})
	go func() {
		cmd.Wait()
		close(ended)
	}()
	h.cmd, h.ended = cmd, ended

	client, err := api.NewClient("unix://" + h.socket())
	if err != nil {
		return nil, err
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		s, err := client.Status(context.Background())
		if err == nil && s.Node.PID == cmd.Process.Pid {
			return client, nil
		}
		select {
		case <-ended:
			return nil, fmt.Errorf("it ended: %v\n%s", cmd.ProcessState, h.logs())
		default:
		}
		if time.Now().After(end) {
			h.kill()
			return nil, fmt.Errorf("it does not answer: %w", err)
		}
	}
}

func (h *processHost) signal(s os.Signal) {
	if err := h.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		h.t.Errorf("signal %d: %v", h.cmd.Process.Pid, err)
	}
}

func (h *processHost) stop() error {
	h.signal(syscall.SIGTERM)
	return h.left()
}

func (h *processHost) left() error {
	select {
	case <-h.ended:
	case <-time.After(10 * time.Second):
		h.kill()
		return errors.New("it was not gone after 10 s")
	}
	if code := h.cmd.ProcessState.ExitCode(); code != 0 {
		return fmt.Errorf("it ended with %v, want 0", h.cmd.ProcessState)
	}
	return nil
}

func (h *processHost) kill() {
	h.signal(syscall.SIGKILL)
	<-h.ended
}

func (h *processHost) powerOff() {
	if h.cable == nil {
		h.t.Fatal("this world has one network that cannot be cut")
	}
	h.cable(false)
	h.kill()
}

func (h *processHost) pause()  { h.signal(syscall.SIGSTOP) }
func (h *processHost) resume() { h.signal(syscall.SIGCONT) }

func (h *processHost) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if len(h.wrap) > 0 {
		return nil, errors.New("nobody can dial from inside a namespace")
	}
	return new(net.Dialer).DialContext(ctx, network, addr)
}

func (h *processHost) logs() string {
	b, _ := os.ReadFile(h.logFile())
	if lines := strings.SplitAfter(string(b), "\n"); len(lines) > 300 {
		return strings.Join(lines[len(lines)-300:], "")
	}
	return string(b)
}
