package api

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// DefaultAddr is where an agent listens unless it is told otherwise.
const DefaultAddr = "127.0.0.1:7980"

const (
	defaultHost = "127.0.0.1"
	defaultPort = "7980"
)

// An address is where an agent answers, in the forms that NewClient takes.
type address struct {
	shown  string  // as a person would write it
	base   url.URL // scheme, host and path prefix of every request
	socket string  // path of a unix socket, or empty
}

// parseAddress understands HOST:PORT, HOST, :PORT, http://…, https://…,
// unix:///PATH and /PATH. An empty one is DefaultAddr.
func parseAddress(s string) (address, error) {
	s = strings.TrimSpace(s)
	if s == "" {
		s = DefaultAddr
	}
	if path, ok := strings.CutPrefix(s, "unix:"); ok {
		return socketAddress(s, strings.TrimPrefix(path, "//"))
	}
	if strings.HasPrefix(s, "/") {
		return socketAddress(s, s)
	}
	if scheme, _, ok := strings.Cut(s, "://"); ok {
		if scheme != "http" && scheme != "https" {
			return address{}, badAddress(s, fmt.Errorf("unknown scheme %q", scheme))
		}
		return urlAddress(s)
	}
	host, port, err := splitHostPort(s)
	if err != nil {
		return address{}, badAddress(s, err)
	}
	hp := net.JoinHostPort(host, port)
	return address{shown: hp, base: url.URL{Scheme: "http", Host: hp}}, nil
}

func socketAddress(s, path string) (address, error) {
	if !strings.HasPrefix(path, "/") {
		return address{}, badAddress(s, errors.New("the path of a unix socket starts with /"))
	}
	return address{
		shown:  "unix://" + path,
		socket: path,
		base:   url.URL{Scheme: "http", Host: "localhost"},
	}, nil
}

func urlAddress(s string) (address, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		// url.Error repeats the address, and with it any password in it.
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err
		}
		return address{}, fmt.Errorf("parse agent address: %w", err)
	case u.User != nil:
		return address{}, errors.New("parse agent address: it carries a user or password; the agent knows only tokens")
	case u.RawQuery != "" || u.Fragment != "":
		return address{}, badAddress(s, errors.New("it carries a query or a fragment"))
	case u.Hostname() == "":
		return address{}, badAddress(s, errors.New("it names no host"))
	}
	if p := u.Port(); p != "" {
		if err := checkPort(p); err != nil {
			return address{}, badAddress(s, err)
		}
	}
	base := url.URL{Scheme: u.Scheme, Host: u.Host, Path: strings.TrimRight(u.Path, "/")}
	return address{shown: base.String(), base: base}, nil
}

// splitHostPort fills in what a short form leaves out.
func splitHostPort(s string) (host, port string, err error) {
	bare := strings.Trim(s, "[]")
	switch {
	case strings.ContainsAny(s, "/?#@ "):
		return "", "", errors.New("it is no host and port")
	case net.ParseIP(bare) != nil: // an IPv6 address without a port has colons too
		return bare, defaultPort, nil
	case !strings.Contains(s, ":"):
		return s, defaultPort, nil
	}
	host, port, err = net.SplitHostPort(s)
	if err != nil {
		var ae *net.AddrError
		if errors.As(err, &ae) {
			err = errors.New(ae.Err)
		}
		return "", "", err
	}
	if host == "" {
		host = defaultHost
	}
	return host, port, checkPort(port)
}

func checkPort(p string) error {
	if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("port %q is not a number from 1 to 65535", p)
	}
	return nil
}

func badAddress(s string, err error) error {
	return fmt.Errorf("parse agent address %q: %w; write HOST:PORT, http://HOST:PORT, https://HOST:PORT or unix:///PATH", s, err)
}
