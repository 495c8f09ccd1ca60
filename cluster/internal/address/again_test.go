package address

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A choice follows the host, and is not given up for a passing trouble.
func TestAgain(t *testing.T) {
	const lo = "lo 127.0.0.1, "
	for _, tt := range []struct {
		name string
		// What the host has at the start and later, each "interfaces > route", and
		// what is advertised then; "=" in front says that it is not a change.
		steps string
	}{
		{"DHCP comes late", lo + "> -> 127.0.0.1; " + lo + "eth0 10.0.0.5 > 10.0.0.5 -> 10.0.0.5"},
		{"the route comes after the address", lo + "> -> 127.0.0.1; " + lo + "eth0 203.0.113.5 > -> 203.0.113.5; " + lo + "eth0 203.0.113.5 > 203.0.113.5 -> =203.0.113.5"},
		{"Docker is up before DHCP", lo + "docker0 172.17.0.1 > -> 172.17.0.1; " + lo + "docker0 172.17.0.1, eth0 10.0.0.5 > 10.0.0.5 -> 10.0.0.5"},
		{"zeroconf before DHCP", lo + "eth0 169.254.3.4 > -> 169.254.3.4; " + lo + "eth0 10.0.0.5 > 10.0.0.5 -> 10.0.0.5"},
		{"a new lease", lo + "eth0 10.0.0.5 > 10.0.0.5 -> 10.0.0.5; " + lo + "eth0 10.0.0.6 > 10.0.0.6 -> 10.0.0.6"},
		{"the private network comes late", lo + "eth0 203.0.113.5 > 203.0.113.5 -> 203.0.113.5; " + lo + "eth0 203.0.113.5, eth1 10.0.0.5 > 203.0.113.5 -> 10.0.0.5"},
		{"a VPN takes the default route", lo + "eth0 10.0.0.5 > 10.0.0.5 -> 10.0.0.5; " + lo + "eth0 10.0.0.5, tun0 10.8.0.2 > 10.8.0.2 -> =10.0.0.5"},
		{"a second network", lo + "eth1 10.0.0.5 > 10.0.0.5 -> 10.0.0.5; " + lo + "eth0 10.1.0.5, eth1 10.0.0.5 > -> =10.0.0.5"},
		{"the cable is out for a while", lo + "eth0 10.0.0.5, docker0 172.17.0.1 > 10.0.0.5 -> 10.0.0.5; " +
			lo + "docker0 172.17.0.1 > -> =10.0.0.5; " + lo + "> -> =10.0.0.5; " +
			lo + "eth0 10.0.0.5, docker0 172.17.0.1 > 10.0.0.5 -> =10.0.0.5"},
		{"the cable is out and the next lease is another", lo + "eth0 10.0.0.5 > 10.0.0.5 -> 10.0.0.5; " + lo + "> -> =10.0.0.5; " + lo + "eth0 10.0.0.7 > 10.0.0.7 -> 10.0.0.7"},
		{"a makeshift is gone for a worse one", lo + "docker0 172.17.0.1 > -> 172.17.0.1; " + lo + "> -> =172.17.0.1"},
		{"a makeshift is replaced by its like", lo + "docker0 172.17.0.1 > -> 172.17.0.1; " + lo + "docker0 172.18.0.1 > -> 172.18.0.1"},
	} {
		m := &machine{}
		c := Chooser{Bind: netip.IPv4Unspecified(), Host: m}
		for i, step := range strings.Split(tt.steps, ";") {
			host, want, _ := strings.Cut(step, "->")
			ifaces, route, _ := strings.Cut(host, ">")
			want = strings.TrimSpace(want)
			want, stays := strings.CutPrefix(want, "=")
			m.set(ifaces, strings.TrimSpace(route))
			got, changed, err := Choice{}, false, error(nil)
			if i == 0 {
				got, err = c.Choose(t.Context())
				stays = true
			} else {
				got, changed, err = c.Again(t.Context())
			}
			if err != nil || got.Addr.String() != want || changed == stays {
				t.Errorf("%s, step %d: got %s, changed %v, %v, want %s, changed %v", tt.name, i, got.Addr, changed, err, want, !stays)
			}
			if _, changed, _ := c.Again(t.Context()); changed {
				t.Errorf("%s, step %d: changed though nothing has", tt.name, i)
			}
		}
	}
}

// What cannot change is not looked at, and what has not changed is not listed.
func TestAgainIsCheap(t *testing.T) {
	for _, tt := range []struct {
		bind, advertise string
		routed          int
	}{
		{"10.0.0.5", "", 0},
		{"0.0.0.0", "10.0.0.9", 0},
		{"127.0.0.1", "", 0},
		{"0.0.0.0", "", 10},
	} {
		m := machineOf(t, "eth0 10.0.0.5", "10.0.0.5")
		c := Chooser{Bind: netip.MustParseAddr(tt.bind), Advertise: tt.advertise, Host: m}
		if _, err := c.Choose(t.Context()); err != nil {
			t.Fatal(err)
		}
		m.listed, m.routed = 0, 0
		for range 10 {
			if _, changed, err := c.Again(t.Context()); changed || err != nil {
				t.Errorf("%+v: %v, %v", tt, changed, err)
			}
		}
		if m.listed > 0 || m.routed != tt.routed {
			t.Errorf("%+v: interfaces listed %d times, routes asked for %d times", tt, m.listed, m.routed)
		}
	}
}

// A name is looked up once a minute, its order does not matter, and one that is
// not answered changes nothing.
func TestAgainLooksANameUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dns := &fakeDNS{hosts: map[string]string{"me": "198.51.100.7 198.51.100.8"}}
		c := Chooser{Bind: netip.IPv4Unspecified(), Advertise: "me", Resolver: dns, Host: machineOf(t, "eth0 10.0.0.5", "10.0.0.5")}
		if got, err := c.Choose(t.Context()); err != nil || got.Addr.String() != "198.51.100.7" {
			t.Fatalf("%+v, %v", got, err)
		}
		again := func(want string, wantChange bool, lookups int) {
			t.Helper()
			dns.asked = nil
			for range 20 {
				time.Sleep(3 * time.Second)
				got, changed, err := c.Again(t.Context())
				if dns.err != nil && len(dns.asked) > 0 && err == nil {
					t.Error("a look-up that failed is not told of")
				}
				if dns.err == nil && err != nil {
					t.Error(err)
				}
				if got.Addr.String() != want && len(dns.asked) > 0 || changed && !wantChange {
					t.Errorf("got %s, changed %v, want %s", got.Addr, changed, want)
				}
			}
			if len(dns.asked) != lookups {
				t.Errorf("%d look-ups in a minute, want %d", len(dns.asked), lookups)
			}
		}
		dns.hosts["me"] = "198.51.100.8 198.51.100.7"
		again("198.51.100.7", false, 1)
		dns.hosts["me"] = "198.51.100.8 198.51.100.9"
		again("198.51.100.8", true, 1)
		dns.err = errors.New("server misbehaving")
		again("198.51.100.8", false, 1)
		dns.err = nil
		again("198.51.100.8", false, 1)

		// New interfaces are a reason to look at once.
		dns.asked = nil
		dns.hosts["me"] = "198.51.100.10"
		c.Host.(*machine).set("eth0 10.0.0.6", "10.0.0.6")
		if got, changed, err := c.Again(t.Context()); !changed || err != nil || got.Addr.String() != "198.51.100.10" {
			t.Errorf("%+v, %v, %v", got, changed, err)
		}
	})
}
