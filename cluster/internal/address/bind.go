package address

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/peerhq/peer/cluster/internal/text"
)

// ParseBind reads the address of the gossip port, HOST:PORT. HOST is an IP
// address of this host (IPv6 in brackets), localhost, a go-sockaddr template,
// or empty for every IPv4 address; other names are refused, because they may
// mean another host, or several addresses. A link-local IPv6 address comes with
// its zone, [fe80::1%eth0]:PORT. Port 0 picks a free one.
func ParseBind(s string) (netip.AddrPort, error) {
	bad := func(format string, args ...any) (netip.AddrPort, error) {
		return netip.AddrPort{}, fmt.Errorf("bind %s: %s", text.Quote(s), fmt.Sprintf(format, args...))
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
		return bad("port %s: give a number from 0 to 65535, %d is the usual one", text.Quote(p), DefaultPort)
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
			return bad("%s is not an IP address: give one of this host's, 0.0.0.0 for all, or for an interface '{{ GetInterfaceIP \"eth0\" }}:%d'", text.Quote(host), port)
		}
		addr = ip.Unmap()
	}
	switch {
	case addr.IsMulticast():
		return bad("%s is a multicast address: give one of this host's, or 0.0.0.0 for all", addr)
	case text.Unprintable(addr.Zone()) >= 0:
		return bad("its zone cannot be printed: give an interface's name after the %%")
	case linkLocal6(addr) && addr.Zone() == "":
		return bad("%s is a link-local address, of which every interface has one: add its zone, as in [%s%%eth0]:%d, and set --advertise to an address that others reach", addr, addr, port)
	case !linkLocal6(addr) && addr.Zone() != "":
		return bad("only a link-local address has a zone: give [%s]:%d", addr.WithZone(""), port)
	}
	return netip.AddrPortFrom(addr, port), nil
}

// linkLocal6 says whether a is an IPv6 address that means something only on one
// link of one host.
func linkLocal6(a netip.Addr) bool { return a.Is6() && a.IsLinkLocalUnicast() }

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
