//go:build linux

package main

import (
	"context"
	"fmt"
	"maps"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/hashicorp/serf/client"
)

// serfAgent is the agent to beat, with its LAN profile. It is polled over its
// RPC port.
type serfAgent struct{ binary, dir string }

func (p serfAgent) name() string       { return "serf" }
func (p serfAgent) failedMark() string { return "EventMemberFailed:" }

func (p serfAgent) command(s spec) (*exec.Cmd, error) {
	args := []string{
		"agent", "-node=" + s.Name, "-bind=" + net.JoinHostPort(s.Host, gossipPort),
		"-rpc-addr=" + net.JoinHostPort(s.Host, rpcPort), "-profile=lan", "-log-level=info",
	}
	if s.Debug {
		args[len(args)-1] = "-log-level=debug"
	}
	if s.Seed != "" {
		args = append(args, "-retry-join="+net.JoinHostPort(s.Seed, gossipPort))
	}
	if s.Data != "" {
		args = append(args, "-snapshot="+s.Data+"/snapshot")
	}
	if s.Key != "" {
		file := filepath.Join(p.dir, s.Name+".keyring")
		if err := writeOnce(file, `["`+s.Key+`"]`); err != nil {
			return nil, err
		}
		args = append(args, "-keyring-file="+file)
	}
	return exec.Command(p.binary, args...), nil
}

func (p serfAgent) rotate(_ context.Context, s spec, key string) ([]string, error) {
	c, err := client.ClientFromConfig(&client.Config{Addr: net.JoinHostPort(s.Host, rpcPort), Timeout: 30 * time.Second})
	if err != nil {
		return nil, fmt.Errorf("rotate keys: %w", err)
	}
	defer c.Close()
	var named []string
	for _, step := range []struct {
		do  func(string) (map[string]string, error)
		key string
	}{{c.InstallKey, key}, {c.UseKey, key}, {c.RemoveKey, s.Key}} {
		said, err := step.do(step.key)
		if err != nil {
			return nil, fmt.Errorf("rotate keys: %w", err)
		}
		named = append(named, slices.Collect(maps.Keys(said))...)
	}
	return named, nil
}

func (p serfAgent) watch(s spec) viewer {
	return &serfViewer{addr: net.JoinHostPort(s.Host, rpcPort)}
}

type serfViewer struct {
	addr   string
	client *client.RPCClient
}

func (v *serfViewer) waits() bool { return false }

func (v *serfViewer) close() {
	if v.client != nil {
		_ = v.client.Close()
		v.client = nil
	}
}

func (v *serfViewer) view(ctx context.Context, of string, _ bool) (view, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if v.client == nil {
		c, err := client.ClientFromConfig(&client.Config{Addr: v.addr, Timeout: 2 * time.Second})
		if err != nil {
			return nil, err
		}
		v.client = c
	}
	members, err := v.client.MembersFiltered(nil, "", of)
	if err != nil {
		v.close()
		return nil, err
	}
	var out view
	for _, m := range members {
		s := seen{Name: m.Name, Host: m.Addr.String(), State: m.Status}
		if s.State == "leaving" {
			s.State = suspect // not handed out any more
		}
		out = append(out, s)
	}
	return out, nil
}
