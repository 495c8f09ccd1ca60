package cluster

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
)

// host is a machine in a table: "eth0 10.0.0.5, lo 127.0.0.1" and the source
// of its default route, "" for none.
func hostOf(t testing.TB, ifaces, route string) (func() ([]candidate, error), func() (netip.Addr, error)) {
	t.Helper()
	var all []candidate
	for part := range strings.SplitSeq(ifaces, ",") {
		name, addr, ok := strings.Cut(strings.TrimSpace(part), " ")
		if ok {
			all = append(all, candidate{Iface: name, Addr: netip.MustParseAddr(addr)})
		}
	}
	return func() ([]candidate, error) { return all, nil },
		func() (netip.Addr, error) {
			if route == "" {
				return netip.Addr{}, errors.New("network is unreachable")
			}
			return netip.MustParseAddr(route), nil
		}
}

func TestChooseAdvertise(t *testing.T) {
	const lo = "lo 127.0.0.1, lo ::1, "
	for _, tt := range []struct{ name, bind, ifaces, route, want, warning string }{
		{"concrete", "10.0.0.5", "", "", "10.0.0.5", ""},
		{"concrete public", "203.0.113.5", "", "", "203.0.113.5", ""},
		{"concrete loopback", "127.0.0.1", "", "", "127.0.0.1", ""},
		{"concrete IPv6", "2001:db8::5", "", "", "2001:db8::5", ""},
		{"concrete mapped", "::ffff:10.0.0.5", "", "", "10.0.0.5", ""},

		{"usual", "0.0.0.0", lo + "eth0 10.0.0.5", "10.0.0.5", "10.0.0.5", ""},
		{"route decides", "0.0.0.0", lo + "eth0 10.0.0.5, eth1 192.168.0.5, docker0 172.17.0.1", "192.168.0.5", "192.168.0.5", ""},
		{"mapped route", "0.0.0.0", lo + "eth0 10.0.0.5, eth1 192.168.0.5", "::ffff:192.168.0.5", "192.168.0.5", ""},
		{"any, IPv4 first", "::", lo + "eth0 fd00::5, eth0 10.0.0.5", "10.0.0.5", "10.0.0.5", ""},
		{"any, IPv4 first without a route", "::", lo + "eth0 fd00::5, eth0 10.0.0.5", "", "10.0.0.5", "one of several"},
		{"any, IPv6 only", "::", lo + "eth0 fd00::5", "fd00::5", "fd00::5", ""},
		{"carrier space", "0.0.0.0", lo + "eth0 100.64.0.5", "100.64.0.5", "100.64.0.5", ""},

		{"public and private", "0.0.0.0", lo + "eth0 203.0.113.5, eth1 10.0.0.5", "203.0.113.5", "10.0.0.5", ""},
		{"no route, private", "0.0.0.0", lo + "eth0 10.0.0.5", "", "10.0.0.5", ""},
		{"several private", "0.0.0.0", lo + "eth1 10.0.0.5, eth2 10.1.0.5, eth0 203.0.113.5", "203.0.113.5", "10.0.0.5", "one of several|--advertise ADDR|eth1 10.0.0.5, eth2 10.1.0.5, eth0 203.0.113.5"},
		{"overlay beside public", "0.0.0.0", lo + "tailscale0 100.100.0.5, eth0 203.0.113.5", "203.0.113.5", "100.100.0.5", "overlays|--advertise ADDR|eth0 203.0.113.5"},
		{"LAN before overlay", "0.0.0.0", lo + "tailscale0 100.100.0.5, eth1 10.0.0.5", "", "10.0.0.5", "one of several"},

		{"public", "0.0.0.0", lo + "eth0 203.0.113.5", "203.0.113.5", "203.0.113.5", "203.0.113.5, the source of the default route|for want of a private address|--advertise ADDR|candidates: eth0 203.0.113.5"},
		{"public with Docker", "0.0.0.0", lo + "docker0 172.17.0.1, br-12ab 172.18.0.1, eth0 203.0.113.5", "203.0.113.5", "203.0.113.5", "--advertise ADDR|candidates: eth0 203.0.113.5, docker0 172.17.0.1"},
		{"public IPv6", "::", lo + "eth0 2001:db8::5, eth0 fe80::1", "2001:db8::5", "2001:db8::5", "candidates: eth0 2001:db8::5"},
		{"public, interfaces unknown", "0.0.0.0", "", "203.0.113.5", "203.0.113.5", "--advertise ADDR"},
		{"public, no route", "0.0.0.0", lo + "eth0 203.0.113.5", "", "203.0.113.5", "and a default route|--advertise"},
		{"link-local is better than nothing", "0.0.0.0", lo + "eth0 169.254.3.4", "", "169.254.3.4", "--advertise"},
		{"Docker is better than nothing", "0.0.0.0", lo + "docker0 172.17.0.1", "", "172.17.0.1", "--advertise"},
		{"IPv4 bind, IPv6 host", "0.0.0.0", lo + "eth0 fd00::5", "fd00::5", "127.0.0.1", "no other address"},

		{"loopback only", "0.0.0.0", lo, "", "127.0.0.1", "only peers on this host|--advertise ADDR|network is unreachable"},
		{"loopback only, any", "::", lo + "eth0 fe80::1", "", "127.0.0.1", "only peers on this host"},
		{"IPv6 loopback only", "::", "lo ::1", "", "::1", "only peers on this host"},
		{"loopback route", "0.0.0.0", lo, "127.0.0.1", "127.0.0.1", "only peers on this host"},
		{"nothing at all", "0.0.0.0", "", "", "127.0.0.1", "only peers on this host"},
	} {
		ifaces, route := hostOf(t, tt.ifaces, tt.route)
		addr, warning, err := chooseAdvertise(netip.MustParseAddr(tt.bind), "", ifaces, route)
		if err != nil || addr.String() != tt.want {
			t.Errorf("%s: got %s, %v, want %s", tt.name, addr, err, tt.want)
		}
		checkWarning(t, tt.name, warning, tt.warning)
	}
}

func checkWarning(t testing.TB, name, got, want string) {
	t.Helper()
	if want == "" {
		if got != "" {
			t.Errorf("%s: warning %q, want none", name, got)
		}
		return
	}
	wantErr(t, name, errors.New(got), want)
	if strings.Contains(got, "\n") {
		t.Errorf("%s: a warning of several lines: %q", name, got)
	}
}

func TestChooseAdvertiseStartsWhateverTheHostAnswers(t *testing.T) {
	broken := errors.New("netlink: permission denied")
	addr, warning, err := chooseAdvertise(netip.IPv4Unspecified(), "",
		func() ([]candidate, error) { return nil, broken },
		func() (netip.Addr, error) { return netip.Addr{}, nil })
	if err != nil || addr.String() != "127.0.0.1" || !strings.Contains(warning, broken.Error()) {
		t.Errorf("%s, %q, %v", addr, warning, err)
	}
}

func TestChooseAdvertiseExplicit(t *testing.T) {
	for _, tt := range []struct{ in, bind, want, warning, err string }{
		{"198.51.100.7", "0.0.0.0", "198.51.100.7", "", ""}, // behind NAT: not this host's own
		{"198.51.100.7", "10.0.0.5", "198.51.100.7", "", ""},
		{"::ffff:10.0.0.7", "0.0.0.0", "10.0.0.7", "", ""},
		{"[2001:db8::7]", "::", "2001:db8::7", "", ""},
		{"127.0.0.1", "127.0.0.1", "127.0.0.1", "", ""},
		{`{{ "10.0.0.9" }}`, "0.0.0.0", "10.0.0.9", "", ""},
		{` {{ "10.0.0.9" }} `, "0.0.0.0", "10.0.0.9", "", ""},
		{"localhost", "127.0.0.1", "127.0.0.1", "", ""},

		{"127.0.0.1", "0.0.0.0", "127.0.0.1", "only peers on this host", ""},
		{"10.0.0.7", "127.0.0.1", "10.0.0.7", "set --bind", ""},
		{"2001:db8::7", "0.0.0.0", "2001:db8::7", "other IP version|[::]", ""},
		{"10.0.0.7", "2001:db8::1", "10.0.0.7", "other IP version", ""},

		{"0.0.0.0", "0.0.0.0", "", "", `advertise "0.0.0.0"|no host's address`},
		{"::", "::", "", "", "no host's address"},
		{"224.0.0.1", "0.0.0.0", "", "", "no host's address"},
		{"10.0.0.7:7946", "0.0.0.0", "", "", "without a port"},
		{"10.0.0.300", "0.0.0.0", "", "", "neither an IP address nor a name"},
		{"no such name", "0.0.0.0", "", "", "' '"},
		{"{{ GetInterfaceIP }", "0.0.0.0", "", "", "advertise|parse template"},
		{"{{ NoSuchFunc }}", "0.0.0.0", "", "", "NoSuchFunc"},
		{`{{ GetInterfaceIP "nosuch0" }}`, "0.0.0.0", "", "", "advertise|nosuch0"},
		{`{{ "" }}`, "0.0.0.0", "", "", "gives no address"},
		{`{{ "10.0.0.1 10.0.0.2" }}`, "0.0.0.0", "", "", "gives 2 addresses|limit 1"},
		{`{{ "eth0" }}`, "0.0.0.0", "", "", `"eth0"|no IP address`},
	} {
		none := func() ([]candidate, error) { t.Errorf("%s: asked for interfaces", tt.in); return nil, nil }
		noRoute := func() (netip.Addr, error) { t.Errorf("%s: asked for the route", tt.in); return netip.Addr{}, nil }
		addr, warning, err := chooseAdvertise(netip.MustParseAddr(tt.bind), tt.in, none, noRoute)
		wantErr(t, tt.in, err, tt.err)
		if err == nil && addr.String() != tt.want {
			t.Errorf("%s: got %s, want %s", tt.in, addr, tt.want)
		}
		checkWarning(t, tt.in, warning, tt.warning)
	}
}

func TestSplitAdvertise(t *testing.T) {
	for _, tt := range []struct {
		in, host string
		port     uint16
		err      string
	}{
		{"10.0.0.1", "10.0.0.1", 0, ""},
		{"10.0.0.1:7000", "10.0.0.1", 7000, ""},
		{"name", "name", 0, ""},
		{"name:7000", "name", 7000, ""},
		{"2001:db8::1", "2001:db8::1", 0, ""},
		{"[2001:db8::1]", "[2001:db8::1]", 0, ""},
		{"[2001:db8::1]:7000", "2001:db8::1", 7000, ""},
		{`{{ GetInterfaceIP "eth0" }}`, `{{ GetInterfaceIP "eth0" }}`, 0, ""},
		{`{{ GetInterfaceIP "eth0:1" }}:7000`, `{{ GetInterfaceIP "eth0:1" }}`, 7000, ""},
		{"name:0", "", 0, "1 to 65535"},
		{"name:x", "", 0, `port "x"`},
		{":7946", "", 0, "host is missing"},
	} {
		host, port, err := splitAdvertise(tt.in)
		wantErr(t, tt.in, err, tt.err)
		if host != tt.host || port != tt.port {
			t.Errorf("%s: got %s and %d, want %s and %d", tt.in, host, port, tt.host, tt.port)
		}
	}
}

func TestThisHost(t *testing.T) {
	all, err := hostCandidates()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		if c.Iface == "" || !c.Addr.IsValid() || c.Addr.Is4In6() {
			t.Errorf("candidate %+v", c)
		}
	}
	for _, bind := range []string{"0.0.0.0", "::"} {
		// With or without a network, it starts, at an address of this host.
		addr, warning, err := chooseAdvertise(netip.MustParseAddr(bind), "", hostCandidates, defaultRoute(netip.MustParseAddr(bind)))
		if err != nil {
			t.Fatalf("%s: %v", bind, err)
		}
		t.Logf("bound to %s: %s %s", bind, addr, warning)
		if l, err := net.Listen("tcp", netip.AddrPortFrom(addr, 0).String()); err != nil {
			t.Errorf("%s is no address of this host: %v", addr, err)
		} else {
			l.Close()
		}
	}
}
