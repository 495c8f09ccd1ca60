package address

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// machine is a Host in a table.
type machine struct {
	ifaces []Interface
	route  netip.Addr // zero: none
	broken error      // of Addrs and Interfaces

	listed, routed int // how often it was asked
}

// machineOf reads "eth0 10.0.0.5, lo 127.0.0.1" and the source of the default
// route, "" for none.
func machineOf(t testing.TB, ifaces, route string) *machine {
	t.Helper()
	m := &machine{}
	m.set(ifaces, route)
	return m
}

func (m *machine) set(ifaces, route string) {
	m.ifaces, m.route = nil, netip.Addr{}
	for part := range strings.SplitSeq(ifaces, ",") {
		name, addr, ok := strings.Cut(strings.TrimSpace(part), " ")
		if ok {
			m.ifaces = append(m.ifaces, Interface{Name: name, Addr: netip.MustParseAddr(addr)})
		}
	}
	if route != "" {
		m.route = netip.MustParseAddr(route)
	}
}

func (m *machine) Addrs() ([]netip.Addr, error) {
	var out []netip.Addr
	for _, i := range m.ifaces {
		out = append(out, i.Addr)
	}
	return out, m.broken
}

func (m *machine) Interfaces() ([]Interface, error) { m.listed++; return m.ifaces, m.broken }

func (m *machine) Route(netip.Addr) (netip.Addr, error) {
	m.routed++
	if !m.route.IsValid() {
		return netip.Addr{}, errors.New("network is unreachable")
	}
	return m.route, nil
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
		{"IPv4 bind, IPv6 host", "0.0.0.0", lo + "eth0 fd00::5", "fd00::5", "127.0.0.1", "of IPv6 only|--bind [::]:7946|eth0 fd00::5"},

		{"loopback only", "0.0.0.0", lo, "", "127.0.0.1", "only peers on this host|--advertise ADDR|network is unreachable"},
		{"loopback only, any", "::", lo + "eth0 fe80::1", "", "127.0.0.1", "only peers on this host"},
		{"IPv6 loopback only", "::", "lo ::1", "", "::1", "only peers on this host"},
		{"loopback route", "0.0.0.0", lo, "127.0.0.1", "127.0.0.1", "only peers on this host"},
		{"nothing at all", "0.0.0.0", "", "", "127.0.0.1", "only peers on this host"},
	} {
		c := Chooser{Bind: netip.MustParseAddr(tt.bind), Host: machineOf(t, tt.ifaces, tt.route)}
		got, err := c.Choose(t.Context())
		if err != nil || got.Addr.String() != tt.want {
			t.Errorf("%s: got %s, %v, want %s", tt.name, got.Addr, err, tt.want)
		}
		checkWarning(t, tt.name, got.Warning, tt.warning)
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

func TestChooseStartsWhateverTheHostAnswers(t *testing.T) {
	broken := errors.New("netlink: permission denied")
	c := Chooser{Bind: netip.IPv4Unspecified(), Host: &machine{broken: broken}}
	got, err := c.Choose(t.Context())
	if err != nil || got.Addr.String() != "127.0.0.1" || !strings.Contains(got.Warning, broken.Error()) {
		t.Errorf("%+v, %v", got, err)
	}
}

// A port that is bound to a link-local address has no address for others.
func TestChooseRefusesALinkLocalBind(t *testing.T) {
	c := Chooser{Bind: netip.MustParseAddr("fe80::1%eth0")}
	_, err := c.Choose(t.Context())
	wantErr(t, "link-local bind", err, "bind fe80::1%eth0|--advertise|--bind")
	c.Advertise = "2001:db8::7"
	got, err := c.Choose(t.Context())
	wantErr(t, "with an advertised address", err, "")
	checkWarning(t, "with an advertised address", got.Warning, "forwards|--bind")
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

		{"fe80::1%eth0", "::", "", "", `advertise "fe80::1%eth0"|zone|--advertise`},
		{"2001:db8::1%eth0", "::", "", "", "zone|--advertise"},
		{"fe80::1", "::", "", "", "fe80::1 is a link-local address|--advertise"},
		{`{{ "fe80::1" }}`, "::", "", "", "link-local address|--advertise"},
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
		m := &machine{}
		c := Chooser{Bind: netip.MustParseAddr(tt.bind), Advertise: tt.in, Host: m}
		got, err := c.Choose(t.Context())
		wantErr(t, tt.in, err, tt.err)
		if err == nil && got.Addr.String() != tt.want {
			t.Errorf("%s: got %s, want %s", tt.in, got.Addr, tt.want)
		}
		if m.listed > 0 {
			t.Errorf("%s: asked for interfaces", tt.in)
		}
		checkWarning(t, tt.in, got.Warning, tt.warning)
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
		{"[fe80::1%eth0]:7946", "", 0, "zone|--advertise"},
		{"fe80::1", "", 0, "link-local|--advertise"},
		{"0.0.0.0:7946", "", 0, "no host's address"},
	} {
		host, port, err := SplitAdvertise(tt.in)
		wantErr(t, tt.in, err, tt.err)
		if host != tt.host || port != tt.port {
			t.Errorf("%s: got %s and %d, want %s and %d", tt.in, host, port, tt.host, tt.port)
		}
	}
}

func TestThisHost(t *testing.T) {
	all, err := ThisHost().Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	addrs, err := ThisHost().Addrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range all {
		if i.Name == "" || !i.Addr.IsValid() || i.Addr.Is4In6() || !slices.Contains(addrs, i.Addr) {
			t.Errorf("interface %+v, addresses %v", i, addrs)
		}
	}
	for _, bind := range []string{"0.0.0.0", "::"} {
		// With or without a network, it starts, at an address of this host.
		c := Chooser{Bind: netip.MustParseAddr(bind)}
		got, err := c.Choose(t.Context())
		if err != nil {
			t.Fatalf("%s: %v", bind, err)
		}
		t.Logf("bound to %s: %s %s", bind, got.Addr, got.Warning)
		if l, err := net.Listen("tcp", netip.AddrPortFrom(got.Addr, 0).String()); err != nil {
			t.Errorf("%s is no address of this host: %v", got.Addr, err)
		} else {
			l.Close()
		}
		if again, changed, err := c.Again(t.Context()); changed || err != nil || again != got {
			t.Errorf("bound to %s: a moment later %+v, %v, %v", bind, again, changed, err)
		}
	}
}

// BenchmarkAgain is what the question costs while nothing changes.
func BenchmarkAgain(b *testing.B) {
	c := Chooser{Bind: netip.IPv4Unspecified()}
	if _, err := c.Choose(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, changed, err := c.Again(b.Context()); changed || err != nil {
			b.Fatal(changed, err)
		}
	}
}
