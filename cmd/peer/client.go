package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/peerhq/peer/agent"
	"github.com/peerhq/peer/agent/api"
	"github.com/urfave/cli/v2"
)

// clientFlags are those of every verb that asks an agent.
func clientFlags(more ...cli.Flag) []cli.Flag {
	return append(more, &cli.StringFlag{Name: "addr", Usage: "ask the agent at `ADDR`: HOST:PORT, http(s)://HOST:PORT or unix:///PATH (default 127.0.0.1:7980) [$PEER_HTTP_ADDR]"})
}

// client returns a client for the agent that --addr, the environment or the
// configuration file names, in this order. Only the file's own agent is shown
// the token that the file names.
func (inv *invocation) client() (*api.Client, error) {
	addr := inv.flag("addr")
	if addr == "" {
		addr = inv.envAddr()
	}
	tokenFile := inv.env("PEER_HTTP_TOKEN_FILE")
	if addr == "" {
		cfg, err := inv.fileOnly()
		if err != nil {
			return nil, err
		}
		addr = agentAddr(cfg)
		if tokenFile == "" {
			tokenFile = cfg.HTTP.TokenFile
		}
	}
	var opts []api.Option
	if tokenFile != "" && !isSocket(addr) {
		b, err := os.ReadFile(tokenFile)
		if err != nil {
			return nil, withCode(exitConfig, fmt.Errorf("read the agent's token: %w", err))
		}
		opts = append(opts, api.WithToken(strings.TrimSpace(string(b))))
	}
	if ca := inv.env("PEER_HTTP_CA_FILE"); ca != "" {
		pool, err := readCA(ca)
		if err != nil {
			return nil, withCode(exitConfig, err)
		}
		opts = append(opts, api.WithTLS(&tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}))
	}
	c, err := api.NewClient(addr, opts...)
	if err != nil {
		return nil, inv.usage("%v", err)
	}
	return c, nil
}

// envAddr is the agent that the environment names, or empty. The variables are
// also the agent's own settings.
func (p *program) envAddr() string {
	if addr := p.env("PEER_HTTP_ADDR"); addr != "" && addr != "none" {
		return addr
	}
	if socket := p.env("PEER_HTTP_SOCKET"); socket != "" {
		return "unix://" + socket
	}
	return ""
}

// fileOnly reads the configuration file for a verb that asks an agent: a file
// that nobody named and that this user may not read is no mistake of theirs.
func (inv *invocation) fileOnly() (agent.Config, error) {
	path, named := inv.configPath(inv.flag("config"))
	if path == "" {
		return agent.Config{}, nil
	}
	cfg, err := agent.ReadConfigFile(path)
	if !named && errors.Is(err, fs.ErrPermission) {
		return agent.Config{}, nil
	}
	if err != nil {
		return cfg, withCode(exitConfig, err)
	}
	return cfg, nil
}

// agentAddr is where the agent configured by cfg is best asked: at its socket,
// which wants no token, else at its address.
func agentAddr(cfg agent.Config) string {
	if cfg.HTTP.Socket != "" {
		return "unix://" + cfg.HTTP.Socket
	}
	addr := cfg.HTTP.Addr
	if addr == "" || addr == "none" {
		return agent.DefaultHTTPAddr
	}
	if host, port, err := net.SplitHostPort(addr); err == nil {
		if ip, err := netip.ParseAddr(host); host == "" || (err == nil && ip.IsUnspecified()) {
			addr = net.JoinHostPort("127.0.0.1", port)
		}
	}
	if cfg.HTTP.TLS.CertFile != "" {
		return "https://" + addr
	}
	return addr
}

// agentAddrOf is where the agent of the configuration file at path is asked, or
// empty.
func agentAddrOf(path string) string {
	cfg, err := agent.ReadConfigFile(path)
	if err != nil {
		return ""
	}
	return agentAddr(cfg)
}

// readCA reads the certificates that the agent's own is checked against.
func readCA(path string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read PEER_HTTP_CA_FILE: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read PEER_HTTP_CA_FILE: no certificate in %s", path)
	}
	return pool, nil
}

func isSocket(addr string) bool {
	return strings.HasPrefix(addr, "/") || strings.HasPrefix(addr, "unix:")
}
