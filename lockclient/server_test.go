package lockclient_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/peerhq/peer/lockclient"
	"github.com/peerhq/peer/testcluster"
)

// A redisServer is a redis-server on a free port of loopback with nothing
// between, for what is measured and for settings of the server itself. Faults of
// the network are testcluster's.
type redisServer struct {
	t    testing.TB
	addr string
	dir  string
	args []string
	raw  []string // in place of all arguments
	cmd  *exec.Cmd
}

// needRedis returns the path of redis-server, or ends the test, loudly.
func needRedis(t testing.TB) string {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		testcluster.Unavailable(t, "redis", "no redis-server on the PATH: install redis to run this test")
	}
	return path
}

// startRedis starts one with the given extra arguments.
func startRedis(t testing.TB, args ...string) *redisServer {
	t.Helper()
	s := &redisServer{t: t, dir: t.TempDir(), args: args}
	needRedis(t)
	for attempt := 0; ; attempt++ {
		s.addr = freeAddr(t, slices.Contains(args, "--cluster-enabled"))
		if err := s.start(); err == nil {
			break
		} else if attempt == 4 {
			t.Fatal(err)
		}
	}
	t.Cleanup(s.kill)
	return s
}

// freeAddr is an address of loopback that is free now; with bus, the one that a
// cluster's node takes besides is free too.
func freeAddr(t testing.TB, bus bool) string {
	t.Helper()
	for range 100 {
		port := testcluster.FreePort()
		if bus {
			n, _ := strconv.Atoi(port)
			b, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", n+10000))
			if err != nil {
				continue
			}
			b.Close()
		}
		return "127.0.0.1:" + port
	}
	t.Fatal("no port is free")
	return ""
}

func (s *redisServer) start() error {
	_, port, _ := net.SplitHostPort(s.addr)
	args := append([]string{
		"--port", port, "--bind", "127.0.0.1", "--dir", s.dir, "--save", "", "--appendonly", "no",
		"--logfile", filepath.Join(s.dir, "log"), "--daemonize", "no",
	}, s.args...)
	if s.raw != nil {
		args = s.raw
	}
	s.cmd = exec.Command(needRedis(s.t), args...)
	if err := s.cmd.Start(); err != nil {
		return err
	}
	deadline := time.Now().Add(10 * time.Second)
	for time.Now().Before(deadline) {
		if s.answers() {
			return nil
		}
		time.Sleep(5 * time.Millisecond) // a process of its own: there is nothing to wait on
	}
	log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
	s.kill()
	return fmt.Errorf("redis-server at %s did not come up: %s", s.addr, log)
}

// answers reports whether it says anything at all to a ping.
func (s *redisServer) answers() bool {
	conn, err := net.DialTimeout("tcp", s.addr, time.Second)
	if err != nil {
		return false
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Second))
	fmt.Fprint(conn, "PING\r\n")
	n, err := conn.Read(make([]byte, 100))
	return err == nil && n > 0
}

// kill ends the process at once, as kill -9 does; start brings it back, empty.
func (s *redisServer) kill() {
	if s.cmd != nil && s.cmd.Process != nil {
		s.cmd.Process.Kill()
		s.cmd.Wait()
		s.cmd = nil
	}
}

func (s *redisServer) url() string { return "redis://" + s.addr }

// client starts a client of s that is closed at the end of the test.
func (s *redisServer) client(t testing.TB, change ...func(*lockclient.Config)) *lockclient.Client {
	t.Helper()
	cfg := lockclient.Config{URL: s.url(), Node: "node", PID: 7, Command: "test"}
	for _, f := range change {
		f(&cfg)
	}
	c, err := lockclient.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// admin is a plain client, to look and to break things.
func (s *redisServer) admin() *redis.Client { return s.adminWith("") }

func (s *redisServer) adminWith(password string) *redis.Client {
	c := redis.NewClient(&redis.Options{Addr: s.addr, Password: password})
	s.t.Cleanup(func() { c.Close() })
	return c
}

// since reports whether the server is of this version of Redis, such as "6.2", or
// a later one, or Valkey.
func (s *redisServer) since(version string) bool {
	s.t.Helper()
	var major, minor, wantMajor, wantMinor int
	_, v, _ := strings.Cut(fmt.Sprint(s.do("INFO", "server")), "redis_version:")
	if _, err := fmt.Sscanf(v, "%d.%d", &major, &minor); err != nil {
		s.t.Fatalf("read the server's version: %v", err)
	}
	if _, err := fmt.Sscanf(version, "%d.%d", &wantMajor, &wantMinor); err != nil {
		s.t.Fatal(err)
	}
	return major > wantMajor || major == wantMajor && minor >= wantMinor
}

// need ends the test, loudly, when the server is older than version.
func (s *redisServer) need(version string) {
	s.t.Helper()
	if !s.since(version) {
		testcluster.Unavailable(s.t, "redis-"+version, "the redis-server on the PATH is older than "+version)
	}
}

func (s *redisServer) do(args ...any) any {
	s.t.Helper()
	v, err := s.admin().Do(context.Background(), args...).Result()
	if err != nil {
		s.t.Fatalf("%v: %v", args, err)
	}
	return v
}
