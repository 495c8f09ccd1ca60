//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

// server is a redis-server of our own.
type server struct {
	addr  string
	cmd   *exec.Cmd
	dir   string
	admin *redis.Client
}

// startServer starts one on a loopback port that is free. The port may be taken
// between the look and the start: then another one is tried.
func startServer(ctx context.Context) (*server, error) {
	if _, err := exec.LookPath("redis-server"); err != nil {
		return nil, fmt.Errorf("no redis-server on the PATH: install redis to measure locks: %w", err)
	}
	var last error
	for range 3 {
		s, err := tryServer(ctx)
		if err == nil {
			return s, nil
		}
		last = err
	}
	return nil, last
}

func tryServer(ctx context.Context) (*server, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("find a port: %w", err)
	}
	addr := l.Addr().String()
	_, port, _ := net.SplitHostPort(addr)
	l.Close()
	dir, err := os.MkdirTemp("", "versus-redis-")
	if err != nil {
		return nil, fmt.Errorf("make directory: %w", err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, fmt.Errorf("make log: %w", err)
	}
	defer log.Close()
	cmd := exec.Command("redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", dir)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // however this ends
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start redis-server: %w", err)
	}
	s := &server{addr: addr, cmd: cmd, dir: dir, admin: redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1})}
	for end := time.Now().Add(10 * time.Second); ; {
		// Whoever answers must be the one that was started.
		info, err := s.admin.InfoMap(ctx, "server").Result()
		if err == nil && info["Server"]["process_id"] == strconv.Itoa(cmd.Process.Pid) {
			return s, nil
		}
		if time.Now().After(end) || err == nil || ctx.Err() != nil {
			out, _ := os.ReadFile(log.Name())
			s.stop()
			return nil, errors.Join(fmt.Errorf("redis-server does not answer:\n%s", out), err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (s *server) stop() {
	s.admin.Close()
	s.cmd.Process.Kill()
	s.cmd.Wait()
	os.RemoveAll(s.dir)
}

// traffic is what clients have sent so far.
type traffic struct{ commands, reads float64 }

// sent counts these commands, and everything that was read from sockets.
func (s *server) sent(ctx context.Context, commands []string) (traffic, error) {
	info, err := s.admin.InfoMap(ctx, "commandstats", "stats").Result()
	if err != nil {
		return traffic{}, fmt.Errorf("read commandstats: %w", err)
	}
	var t traffic
	for _, c := range commands {
		rest, _ := strings.CutPrefix(info["Commandstats"]["cmdstat_"+c], "calls=")
		calls, _, _ := strings.Cut(rest, ",")
		n, _ := strconv.ParseFloat(calls, 64) // absent: never called
		t.commands += n
	}
	t.reads, err = strconv.ParseFloat(info["Stats"]["total_reads_processed"], 64)
	return t, err
}

// connections counts those of others than the admin.
func (s *server) connections(ctx context.Context) (float64, error) {
	list, err := s.admin.ClientList(ctx).Result()
	if err != nil {
		return 0, fmt.Errorf("list clients: %w", err)
	}
	return float64(strings.Count(list, "\n") - 1), nil
}

// version is that of redis-server.
func (s *server) version(ctx context.Context) string {
	info, err := s.admin.InfoMap(ctx, "server").Result()
	if err != nil {
		return "unknown"
	}
	return info["Server"]["redis_version"]
}
