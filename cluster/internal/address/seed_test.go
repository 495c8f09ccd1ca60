package address

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var _ Resolver = (*net.Resolver)(nil)

// fakeDNS answers from two maps: "host" to "1.2.3.4 ::1", and "name" to
// "target:port target:port". Each look-up takes delay.
type fakeDNS struct {
	hosts, srvs map[string]string
	delay       time.Duration
	err         error // of all look-ups

	mu           sync.Mutex
	asked        []string
	now, busiest int
}

func (f *fakeDNS) ask(ctx context.Context, name string) error {
	f.mu.Lock()
	f.asked = append(f.asked, name)
	f.now++
	f.busiest = max(f.busiest, f.now)
	f.mu.Unlock()
	defer func() { f.mu.Lock(); f.now--; f.mu.Unlock() }()
	if f.delay > 0 {
		select {
		case <-time.After(f.delay):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return f.err
}

func (f *fakeDNS) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	if network != "ip" {
		return nil, fmt.Errorf("asked for %s", network)
	}
	if err := f.ask(ctx, host); err != nil {
		return nil, err
	}
	answer, ok := f.hosts[host]
	if !ok {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	var out []netip.Addr
	for a := range strings.FieldsSeq(answer) {
		out = append(out, netip.MustParseAddr(a))
	}
	return out, nil
}

func (f *fakeDNS) LookupSRV(ctx context.Context, service, proto, name string) (string, []*net.SRV, error) {
	if service != "" || proto != "" {
		return "", nil, fmt.Errorf("asked for service %q, proto %q", service, proto)
	}
	if err := f.ask(ctx, name); err != nil {
		return "", nil, err
	}
	answer, ok := f.srvs[name]
	if !ok {
		return "", nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
	}
	var out []*net.SRV
	for rec := range strings.FieldsSeq(answer) {
		i := strings.LastIndex(rec, ":")
		var port uint16
		fmt.Sscan(rec[i+1:], &port) //nolint:errcheck // 0 then
		out = append(out, &net.SRV{Target: rec[:i], Port: port})
	}
	return name, out, nil
}

func TestParseSeed(t *testing.T) {
	for _, tt := range []struct{ in, want, err string }{
		{"10.0.0.1", "ip 10.0.0.1 7946", ""},
		{"10.0.0.1:7000", "ip 10.0.0.1 7000", ""},
		{"::1", "ip ::1 7946", ""},
		{"2001:db8::1:7000", "ip 2001:db8::1:7000 7946", ""}, // the whole is an address
		{"[2001:db8::1]", "ip 2001:db8::1 7946", ""},
		{"[2001:db8::1]:7000", "ip 2001:db8::1 7000", ""},
		{"::ffff:10.0.0.1", "ip 10.0.0.1 7946", ""},
		{"[::ffff:10.0.0.1]:7000", "ip 10.0.0.1 7000", ""},
		{"seed", "host seed 7946", ""},
		{"seed.example.org.", "host seed.example.org. 7946", ""},
		{"seed_1.example.org:7000", "host seed_1.example.org 7000", ""},
		{"dns+seed", "host seed 7946", ""},
		{"dns+seed:7000", "host seed 7000", ""},
		{"dns+10.0.0.1:7000", "ip 10.0.0.1 7000", ""},
		{"dnssrv+_peer._udp.example.org", "srv _peer._udp.example.org", ""},
		{"dnssrv+peer.service.consul", "srv peer.service.consul", ""},

		{"", "", "seed is empty|HOST:PORT"},
		{":7946", "", "the host is missing"},
		{"7946", "", "neither an IP address nor a name"},
		{"10.0.0", "", "neither an IP address nor a name"},
		{"10.0.0.256:7946", "", "four numbers from 0 to 255"},
		{"seed:", "", `port ""|1 to 65535`},
		{"seed:0", "", `port "0"`},
		{"seed:65536", "", `port "65536"`},
		{"seed:http", "", `port "http"`},
		{"10.0.0.1:7:8", "", "does not parse|[ADDRESS]:PORT"},
		{"[seed]:7946", "", "brackets"},
		{"[::1]x", "", "does not parse"},
		{"http://seed:7946", "", "URL|HOST:PORT"},
		{"srv+seed", "", `"srv"|dnssrv+NAME`},
		{"dnssrv+_peer._udp.example.org:7946", "", "remove it"},
		{"dnssrv+", "", "the host is missing"},
		{"dns+", "", "the host is missing"},
		{"a,b", "", "','|one a seed"},
		{"a b", "", "' '"},
		{"a..b", "", "between dots"},
		{strings.Repeat("a", 64), "", "63 bytes"},
		{strings.Repeat("abc.", 64) + "de", "", "258 bytes"},
		{"größe", "", "'ö'|xn--"},
		{"0.0.0.0", "", "no host's address"},
		{"[::]:7946", "", "no host's address"},
		{"fe80::1%\x1b[31m", "", "zone cannot be printed"},
		{"[fe80::1%eth0]:7000", "", "fe80::1%eth0 means something on one link|--join"},
		{"fe80::1", "", "one link of one host only|--join"},
		{"[2001:db8::1%eth0]:7000", "", "--join"},
		{"224.0.0.1:7946", "", "no host's address"},
	} {
		s, err := ParseSeed(tt.in, 7946)
		wantErr(t, tt.in, err, tt.err)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "seed ") {
				t.Errorf("%s: %v, want the seed named", tt.in, err)
			}
			continue
		}
		got := ""
		switch {
		case s.addr.IsValid():
			got = fmt.Sprintf("ip %s %d", s.addr, s.port)
		case s.srv != "":
			got = "srv " + s.srv
		default:
			got = fmt.Sprintf("host %s %d", s.host, s.port)
		}
		if got != tt.want || s.String() != tt.in {
			t.Errorf("%s: got %s (%s), want %s", tt.in, got, s, tt.want)
		}
	}
}

func resolveSeed(t testing.TB, text string, r Resolver) ([]netip.AddrPort, error) {
	t.Helper()
	s, err := ParseSeed(text, 7946)
	if err != nil {
		t.Fatal(err)
	}
	return s.Resolve(t.Context(), r)
}

func TestSeedResolves(t *testing.T) {
	dns := &fakeDNS{
		hosts: map[string]string{
			"one":   "10.0.0.1",
			"two":   "10.0.0.2 10.0.0.1 2001:db8::1 ::ffff:10.0.0.2 10.0.0.1",
			"odd":   "0.0.0.0 224.0.0.1 fe80::1 10.0.0.3",
			"none":  "",
			"t1.x.": "10.0.1.1 10.0.1.2",
			"t2.x.": "10.0.1.2",
		},
		srvs: map[string]string{
			"_p._udp.x":  "t2.x.:7002 t1.x.:7001 t2.x.:7002",
			"_q._udp.x":  "gone.x.:7003 t2.x.:7002 t1.x.:0 .:9",
			"_r._udp.x":  "gone.x.:7003",
			"_s._udp.x":  ".:0",
			"_dup._udp.": "t1.x.:7002 t2.x.:7002",
		},
	}
	for _, tt := range []struct{ in, want, err string }{
		{"one", "10.0.0.1:7946", ""},
		{"dns+two:7000", "10.0.0.2:7000 10.0.0.1:7000 [2001:db8::1]:7000", ""},
		{"odd", "10.0.0.3:7946", ""},
		{"dnssrv+_p._udp.x", "10.0.1.2:7002 10.0.1.1:7001 10.0.1.2:7001", ""},
		{"dnssrv+_dup._udp.", "10.0.1.1:7002 10.0.1.2:7002", ""},
		{"dnssrv+_q._udp.x", "10.0.1.2:7002", ""}, // one target is enough
		{"10.9.9.9:1", "10.9.9.9:1", ""},

		{"none", "", `resolve seed "none": the name has no usable address|DNS records`},
		{"gone", "", `resolve seed "gone"|no such host|check its spelling`},
		{"dnssrv+gone", "", `"dnssrv+gone"|no such host|check its spelling`},
		{"dnssrv+_r._udp.x", "", "gone.x.|no such host"},
		{"dnssrv+_s._udp.x", "", "no usable address"},
	} {
		addrs, err := resolveSeed(t, tt.in, dns)
		wantErr(t, tt.in, err, tt.err)
		var got []string
		for _, a := range addrs {
			got = append(got, a.String())
		}
		if g := strings.Join(got, " "); g != tt.want {
			t.Errorf("%s: got %s, want %s", tt.in, g, tt.want)
		}
	}
	if slices.Contains(dns.asked, "10.9.9.9") {
		t.Error("looked an IP address up")
	}
}

func TestSeedIsResolvedAnew(t *testing.T) {
	dns := &fakeDNS{hosts: map[string]string{"moving": "10.0.0.1"}}
	s, err := ParseSeed("moving", 7946)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []string{"10.0.0.1", "10.0.0.2", "10.0.0.1"} {
		dns.hosts["moving"] = at
		addrs, err := s.Resolve(t.Context(), dns)
		if err != nil || len(addrs) != 1 || addrs[0].Addr().String() != at {
			t.Errorf("got %v, %v, want %s", addrs, err, at)
		}
	}
}

func TestSeedIsBounded(t *testing.T) {
	var all strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&all, "10.0.%d.%d ", i/250, i%250+1)
	}
	dns := &fakeDNS{hosts: map[string]string{"crowd": all.String()}}
	seen := map[netip.AddrPort]bool{}
	for range 20 {
		addrs, err := resolveSeed(t, "crowd", dns)
		if err != nil || len(addrs) != maxSeedAddrs {
			t.Fatalf("%d addresses, %v, want %d", len(addrs), err, maxSeedAddrs)
		}
		for _, a := range addrs {
			seen[a] = true
		}
	}
	if len(seen) < 4*maxSeedAddrs {
		t.Errorf("20 times the same %d of 5000 addresses: dead ones hide the living for ever", len(seen))
	}
}

func TestSeedLooksTargetsUpInParallel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dns := &fakeDNS{hosts: map[string]string{}, srvs: map[string]string{}, delay: time.Second}
		var recs strings.Builder
		for i := range 100 {
			dns.hosts[fmt.Sprintf("t%d.", i)] = fmt.Sprintf("10.0.0.%d", i+1)
			fmt.Fprintf(&recs, "t%d.:7946 ", i)
		}
		dns.srvs["all"] = recs.String()
		start := time.Now()
		addrs, err := resolveSeed(t, "dnssrv+all", dns)
		if err != nil || len(addrs) != maxSeedAddrs || addrs[0].Addr().String() != "10.0.0.1" {
			t.Errorf("%d addresses from %v, %v", len(addrs), addrs[:1], err)
		}
		if took := time.Since(start); took != time.Second+maxSeedAddrs/srvLookups*time.Second {
			t.Errorf("took %s", took)
		}
		if dns.busiest != srvLookups {
			t.Errorf("%d look-ups at a time, want %d", dns.busiest, srvLookups)
		}
	})
}

func TestSeedObeysItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dns := &fakeDNS{srvs: map[string]string{"x": "a.:1 b.:2"}, delay: time.Hour}
		for _, text := range []string{"host", "dnssrv+x"} {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			s, err := ParseSeed(text, 7946)
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			_, err = s.Resolve(ctx, dns)
			cancel()
			if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 2*time.Second {
				t.Errorf("%s: %v after %s", text, err, time.Since(start))
			}
			wantErr(t, text, err, "DNS server answers")
		}
	})
}

func TestSeedErrorsNameTheFix(t *testing.T) {
	_, err := resolveSeed(t, "host", &fakeDNS{err: &net.DNSError{Err: "server misbehaving", Name: "host", Server: "10.0.0.53:53", IsTemporary: true}})
	wantErr(t, "server", err, `seed "host"|server misbehaving|check that this host's DNS server answers`)
	var dns *net.DNSError
	if !errors.As(err, &dns) {
		t.Errorf("%v hides the cause", err)
	}
}

func FuzzParseSeed(f *testing.F) {
	for _, s := range []string{"seed", "seed:7946", "[::1]:7946", "dns+a", "dnssrv+_a._b.c", "10.0.0.1", "fe80::1%eth0", "a+b", "[", "::ffff:1.2.3.4"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseSeed(text, 7946)
		if err != nil {
			if len(err.Error()) > 512 {
				t.Fatalf("an error of %d bytes", len(err.Error()))
			}
			return
		}
		forms := 0
		for _, is := range []bool{s.addr.IsValid(), s.host != "", s.srv != ""} {
			if is {
				forms++
			}
		}
		if forms != 1 || s.port == 0 || s.text != text || s.addr.Is4In6() {
			t.Fatalf("%q: %+v", text, s)
		}
	})
}
