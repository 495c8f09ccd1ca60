//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"time"
)

// bareAgent is bare memberlist, the floor of what an agent costs.
type bareAgent struct{ binary string }

func (p bareAgent) name() string       { return "bare" }
func (p bareAgent) failedMark() string { return "bare: gone:" }

func (p bareAgent) command(s spec) (*exec.Cmd, error) {
	args := []string{"-name", s.Name, "-bind", net.JoinHostPort(s.Host, gossipPort), "-http", net.JoinHostPort(s.Host, apiPort)}
	if s.Seed != "" {
		args = append(args, "-join", net.JoinHostPort(s.Seed, gossipPort))
	}
	if s.Key != "" {
		args = append(args, "-key", s.Key)
	}
	return exec.Command(p.binary, args...), nil
}

func (p bareAgent) rotate(context.Context, spec, string) ([]string, error) {
	return nil, errors.New("bare memberlist has no command for keys")
}

func (p bareAgent) watch(s spec) viewer {
	return &bareViewer{
		url:  "http://" + net.JoinHostPort(s.Host, apiPort),
		http: &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{}},
	}
}

type bareViewer struct {
	url  string
	http *http.Client
}

func (v *bareViewer) waits() bool { return false }
func (v *bareViewer) close()      { v.http.CloseIdleConnections() }

func (v *bareViewer) view(ctx context.Context, _ string, _ bool) (view, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, v.url, nil)
	if err != nil {
		return nil, fmt.Errorf("read members: %w", err)
	}
	resp, err := v.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var members []struct{ Name, Addr string }
	if err := json.NewDecoder(resp.Body).Decode(&members); err != nil {
		return nil, fmt.Errorf("read members: %w", err)
	}
	var out view
	for _, m := range members {
		host, _, _ := net.SplitHostPort(m.Addr)
		out = append(out, seen{Name: m.Name, Host: host, State: alive}) // memberlist lists nobody else
	}
	return out, nil
}
