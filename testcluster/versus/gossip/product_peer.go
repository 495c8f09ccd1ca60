//go:build linux

package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/peerhq/peer/agent/api"
)

// peerAgent is ours. It is read by blocking reads of /v1/members: each answers
// when something newer is known, so that nothing is lost to polling and an idle
// agent is not disturbed.
type peerAgent struct{ binary, dir string }

func (p peerAgent) name() string       { return "ours" }
func (p peerAgent) failedMark() string { return "state=failed" }

func (p peerAgent) command(s spec) (*exec.Cmd, error) {
	args := []string{
		"agent", "--name", s.Name, "--bind", net.JoinHostPort(s.Host, gossipPort),
		"--http", net.JoinHostPort(s.Host, apiPort), "--http-insecure", "--log-level", "info",
	}
	if s.Debug {
		args[len(args)-1] = "debug"
	}
	if s.Seed != "" {
		args = append(args, "--join", net.JoinHostPort(s.Seed, gossipPort))
	}
	if s.Data != "" {
		args = append(args, "--data-dir", s.Data)
	}
	if s.Key == "" {
		args = append(args, "--gossip-insecure")
	} else {
		file := filepath.Join(p.dir, s.Name+".key")
		if err := writeOnce(file, s.Key+"\n"); err != nil {
			return nil, err
		}
		args = append(args, "--encrypt-file", file)
	}
	return exec.Command(p.binary, args...), nil
}

// writeOnce writes a key file, unless there is one: agents keep theirs up to date.
func writeOnce(file, text string) error {
	if _, err := os.Stat(file); err == nil {
		return nil
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return fmt.Errorf("write gossip key: %w", err)
	}
	return nil
}

func (p peerAgent) rotate(ctx context.Context, s spec, key string) ([]string, error) {
	c, err := api.NewClient("http://" + net.JoinHostPort(s.Host, apiPort))
	if err != nil {
		return nil, fmt.Errorf("rotate keys: %w", err)
	}
	defer c.Close()
	k, err := c.ChangeKeyring(ctx, api.KeyringRequest{Op: "rotate", Key: key})
	if err != nil {
		return nil, fmt.Errorf("rotate keys: %w", err)
	}
	for _, m := range k.Members {
		if m.Error != "" {
			return nil, fmt.Errorf("rotate keys: %s: %s", m.Name, m.Error)
		}
	}
	return k.Absent, nil
}

func (p peerAgent) watch(s spec) viewer {
	c, err := api.NewClient("http://"+net.JoinHostPort(s.Host, apiPort), api.WithTimeout(5*time.Second))
	if err != nil {
		panic(err) // the address is our own making
	}
	return &peerViewer{client: c}
}

type peerViewer struct {
	client *api.Client
	index  uint64
}

func (v *peerViewer) waits() bool { return true }
func (v *peerViewer) close()      { v.client.Close() }

func (v *peerViewer) view(ctx context.Context, of string, fresh bool) (view, error) {
	q := api.MembersQuery{Name: of}
	if !fresh {
		q.Index, q.Wait = v.index, time.Second
	}
	m, err := v.client.Members(ctx, q)
	if err != nil {
		v.index = 0 // it may be another process by now
		return nil, err
	}
	v.index = m.Index
	var out view
	for _, p := range m.Members {
		host, _, _ := net.SplitHostPort(p.Addr)
		s := seen{Name: p.Name, Host: host, State: p.State}
		if s.State == alive && !p.Eligible {
			s.State = suspect // a conflict: it is not handed out
		}
		out = append(out, s)
	}
	return out, nil
}
