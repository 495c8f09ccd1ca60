package testcluster

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

// Redis is a Redis that a scenario can break. Its faults are seen by clients
// that dial Addr.
type Redis interface {
	// Addr is host:port.
	Addr() string
	// Kill is kill -9: streams end, dials are refused.
	Kill()
	// RestartEmpty starts it anew without its data, after Kill or instead of it.
	RestartEmpty()
	// Pause is SIGSTOP: streams are accepted and nothing is answered.
	Pause()
	// Resume is SIGCONT.
	Resume()
	// Stall holds all bytes back, as a lost network does, until Heal.
	Stall()
	// Cut resets all streams and refuses new ones, until Heal.
	Cut()
	// Reset resets all streams, once.
	Reset()
	// Slow makes each round trip longer by d, until Heal.
	Slow(d time.Duration)
	// Heal undoes Stall, Cut and Slow.
	Heal()
}

// RedisServer is a redis-server process behind a proxy, or without one on this
// machine an embedded Redis behind the same proxy.
type RedisServer struct {
	t     testing.TB
	args  []string
	dir   string
	cmd   *exec.Cmd // nil when embedded or killed
	mini  atomic.Pointer[miniredis.Miniredis]
	proxy *proxy
}

var _ Redis = (*RedisServer)(nil)

// StartRedis starts a redis-server without persistence on a loopback port that
// is free, with these settings more, such as "--requirepass", "secret". It is
// stopped when the test ends. Without redis-server on the PATH the test is
// skipped, or fails when PEER_TEST_REQUIRE names redis.
func StartRedis(t testing.TB, args ...string) *RedisServer {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		Unavailable(t, "redis", "no redis-server on the PATH: install redis to run this test")
	}
	dir, err := os.MkdirTemp("", "peer-redis-") // a socket's path is short, t.TempDir is not
	if err != nil {
		t.Fatal(err)
	}
	r := &RedisServer{t: t, args: args, dir: dir}
	r.proxy = newProxy(t, func() (net.Conn, error) { return net.Dial("unix", r.socket()) })
	t.Cleanup(func() {
		r.proxy.close()
		r.stop()
		os.RemoveAll(dir)
	})
	r.start()
	return r
}

// StartAnyRedis is StartRedis, and falls back to an embedded Redis on a machine
// that has no redis-server.
func StartAnyRedis(t testing.TB) *RedisServer {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err == nil || Required("redis") {
		return StartRedis(t)
	}
	t.Log("no redis-server on the PATH: this test uses an embedded Redis instead")
	return StartEmbeddedRedis(t)
}

// StartEmbeddedRedis starts the Redis of peer dev, on a loopback port that is free
// and with the faults of StartRedis. It is stopped when the test ends.
func StartEmbeddedRedis(t testing.TB) *RedisServer {
	t.Helper()
	r := &RedisServer{t: t}
	r.proxy = newProxy(t, func() (net.Conn, error) {
		if m := r.mini.Load(); m != nil {
			return m.Dial()
		}
		return nil, syscall.ECONNREFUSED
	})
	t.Cleanup(func() {
		r.proxy.close()
		r.stop()
	})
	r.start()
	return r
}

// Embedded says whether this is not a redis-server.
func (r *RedisServer) Embedded() bool { return r.dir == "" }

// Addr is the proxy's address.
func (r *RedisServer) Addr() string { return r.proxy.addr }

// PID is that of redis-server, 0 when there is none.
func (r *RedisServer) PID() int {
	if r.cmd == nil {
		return 0
	}
	return r.cmd.Process.Pid
}

// Listeners counts the channels that somebody listens on: one for each client
// of lockclient that waits or holds, once it would hear what is published.
func (r *RedisServer) Listeners() int {
	rdb := redis.NewClient(&redis.Options{Addr: r.Addr()})
	defer rdb.Close()
	return len(rdb.PubSubChannels(r.t.Context(), "*").Val())
}

// Kill is kill -9.
func (r *RedisServer) Kill() {
	r.proxy.cut()
	r.stop()
}

// RestartEmpty starts it anew; nothing was saved.
func (r *RedisServer) RestartEmpty() {
	r.Kill()
	r.start()
	r.proxy.heal()
}

// Pause stops the process; the proxy goes on accepting, as its kernel would.
func (r *RedisServer) Pause() {
	if r.cmd == nil {
		r.proxy.stall()
		return
	}
	r.signal(syscall.SIGSTOP)
}

// Resume lets the process go on.
func (r *RedisServer) Resume() {
	if r.cmd == nil {
		r.proxy.heal()
		return
	}
	r.signal(syscall.SIGCONT)
}

func (r *RedisServer) Stall()               { r.proxy.stall() }
func (r *RedisServer) Cut()                 { r.proxy.cut() }
func (r *RedisServer) Reset()               { r.proxy.reset() }
func (r *RedisServer) Slow(d time.Duration) { r.proxy.slow(d) }
func (r *RedisServer) Heal()                { r.proxy.heal() }

func (r *RedisServer) socket() string { return filepath.Join(r.dir, "redis.sock") }

func (r *RedisServer) signal(s os.Signal) {
	if err := r.cmd.Process.Signal(s); err != nil {
		r.t.Errorf("signal redis-server: %v", err)
	}
}

func (r *RedisServer) start() {
	r.t.Helper()
	if r.Embedded() {
		m := miniredis.NewMiniRedis()
		m.ClockTTL(true)
		r.mini.Store(m)
		return
	}
	os.Remove(r.socket())
	log, err := os.Create(filepath.Join(r.dir, "log"))
	if err != nil {
		r.t.Fatal(err)
	}
	defer log.Close()
	args := append([]string{"--port", "0", "--unixsocket", r.socket(), "--save", "", "--appendonly", "no", "--dir", r.dir}, r.args...)
	cmd := exec.Command("redis-server", args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		r.t.Fatalf("start redis-server: %v", err)
	}
	r.cmd = cmd
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		err := ping(r.socket())
		if err == nil {
			return
		}
		if time.Now().After(end) {
			out, _ := os.ReadFile(log.Name())
			r.t.Fatalf("redis-server does not answer: %v\n%s", err, out)
		}
	}
}

func (r *RedisServer) stop() {
	if m := r.mini.Swap(nil); m != nil {
		m.Close()
	}
	if r.cmd != nil {
		r.cmd.Process.Kill()
		r.cmd.Wait()
		r.cmd = nil
	}
}

// ping asks for any answer at all: it may well be that a password is missing.
func ping(socket string) error {
	c, err := net.DialTimeout("unix", socket, time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Second))
	if _, err := fmt.Fprint(c, "PING\r\n"); err != nil {
		return err
	}
	answer, err := bufio.NewReader(c).ReadString('\n')
	if err == nil && strings.HasPrefix(answer, "-LOADING") {
		err = errors.New(strings.TrimSpace(answer))
	}
	return err
}

// Required says whether PEER_TEST_REQUIRE, a comma-separated list, names what.
// A test that lacks something skips itself unless it is required.
func Required(what string) bool {
	return slices.Contains(strings.Split(os.Getenv("PEER_TEST_REQUIRE"), ","), what)
}

// Unavailable skips t for want of what, with the reason on standard error too,
// or fails it when what is Required.
func Unavailable(t testing.TB, what, reason string) {
	t.Helper()
	if Required(what) {
		t.Fatalf("%s, and PEER_TEST_REQUIRE asks for %s", reason, what)
	}
	fmt.Fprintf(os.Stderr, "SKIP %s: %s\n", t.Name(), reason)
	t.Skip(reason)
}
