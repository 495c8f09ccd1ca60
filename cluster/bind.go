package cluster

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// parseBind reads the address of the gossip port, HOST:PORT. HOST is an IP
// address of this host (IPv6 in brackets), localhost, a go-sockaddr template,
// or empty for every address; other names are refused, because they may mean
// another host, or several addresses. Port 0 picks a free one.
func parseBind(s string) (netip.AddrPort, error) {
	bad := func(format string, args ...any) (netip.AddrPort, error) {
		return netip.AddrPort{}, fmt.Errorf("bind %s: %s", quote(s), fmt.Sprintf(format, args...))
	}
	host, p, ok := splitHostPort(s)
	if !ok {
		switch ip, err := netip.ParseAddr(strings.Trim(s, "[]")); {
		case s == "":
			return bad("it is empty: give HOST:PORT, such as 0.0.0.0:%d", DefaultPort)
		case err == nil:
			return bad("the port is missing: give %s", netip.AddrPortFrom(ip.Unmap(), DefaultPort))
		case strings.Trim(s, "0123456789") == "":
			return bad("the host is missing: give HOST:PORT, or :%s for every address of this host", s)
		case strings.Count(s, ":") > 1:
			return bad("give an IPv6 address in brackets: [ADDRESS]:PORT")
		}
		return bad("the port is missing: give HOST:PORT, such as 0.0.0.0:%d", DefaultPort)
	}
	port, ok := parsePort(p)
	if !ok {
		return bad("port %s: give a number from 0 to 65535, %d is the usual one", quote(p), DefaultPort)
	}

	var addr netip.Addr
	switch {
	case host == "":
		addr = netip.IPv4Unspecified()
	case strings.EqualFold(host, "localhost"):
		addr = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	case host == "*":
		return bad("give 0.0.0.0:%d for every IPv4 address, [::]:%d for IPv6 too", port, port)
	case isTemplate(host):
		ip, err := expandTemplate(host)
		if err != nil {
			return bad("%v", err)
		}
		addr = ip
	default:
		ip, err := netip.ParseAddr(host)
		if err != nil {
			return bad("%s is not an IP address: give one of this host's, 0.0.0.0 for all, or for an interface '{{ GetInterfaceIP \"eth0\" }}:%d'", quote(host), port)
		}
		addr = ip.Unmap()
	}
	if addr.IsMulticast() {
		return bad("%s is a multicast address: give one of this host's, or 0.0.0.0 for all", addr)
	}
	return netip.AddrPortFrom(addr, port), nil
}

// splitHostPort parts HOST:PORT. Unlike net.SplitHostPort it knows that a
// template may have colons and brackets of its own, and it does not take an
// IPv6 address without brackets apart.
func splitHostPort(s string) (host, port string, ok bool) {
	if isTemplate(s) {
		end := strings.LastIndex(s, "}}")
		if end < 0 {
			return "", "", false
		}
		i := strings.LastIndexByte(s[end:], ':')
		if i < 0 {
			return "", "", false
		}
		return s[:end+i], s[end+i+1:], true
	}
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return "", "", false
	}
	host, port = s[:i], s[i+1:]
	if inner, found := strings.CutPrefix(host, "["); found {
		host, ok = strings.CutSuffix(inner, "]")
		return host, port, ok
	}
	return host, port, !strings.ContainsAny(host, ":]")
}

// parsePort reads a port, 0 included.
func parsePort(s string) (uint16, bool) {
	p, err := strconv.ParseUint(s, 10, 16)
	return uint16(p), err == nil
}
