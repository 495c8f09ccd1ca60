package dns_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/peerhq/peer/agent/dns"
)

// world is a Source: web on a and b, v6 on c, far at another address, large on
// 150 hosts, down known and live nowhere.
type world struct{ turn atomic.Int64 }

func (w *world) Service(name, tag string) ([]dns.Target, bool) {
	a := dns.Target{Node: "a", IP: netip.MustParseAddr("10.0.0.1"), Port: 80, Weight: 1}
	b := dns.Target{Node: "b", IP: netip.MustParseAddr("10.0.0.2"), Port: 81, Weight: 3}
	switch {
	case name == "web" && tag == "canary":
		return []dns.Target{b}, true
	case name == "web" && tag == "":
		all := []dns.Target{a, b}
		if w.turn.Add(1)%2 == 0 {
			slices.Reverse(all)
		}
		return all, true
	case name == "v6":
		return []dns.Target{{Node: "c", IP: netip.MustParseAddr("fd00::3"), Port: 80}}, true
	case name == "far":
		return []dns.Target{{Node: "a", IP: a.IP, Addr: "10.9.9.9", Port: 80}, {Node: "b", IP: b.IP, Addr: "db.example.net", Port: 5432}}, true
	case name == "large":
		var all []dns.Target
		for i := range 150 {
			all = append(all, dns.Target{Node: fmt.Sprintf("host-%d", i), IP: netip.AddrFrom4([4]byte{10, 1, 0, byte(i)}), Port: 80})
		}
		return all, true
	case name == "down", name == "web":
		return nil, name == "down"
	}
	return nil, false
}

func (w *world) Node(name string) (netip.Addr, bool, bool) {
	switch name {
	case "a", "web-1.example.net":
		return netip.MustParseAddr("10.0.0.1"), true, true
	case "dead":
		return netip.MustParseAddr("10.0.0.9"), false, true
	}
	return netip.Addr{}, false, false
}

func serve(t testing.TB) string {
	t.Helper()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	udp, err := net.ListenPacket("udp", tcp.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := dns.Start(dns.Config{UDP: udp, TCP: tcp}, new(world))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return tcp.Addr().String()
}

// shown writes an answer in one line: RCODE answers | authority | additional.
func shown(m *mdns.Msg) string {
	var out strings.Builder
	out.WriteString(mdns.RcodeToString[m.Rcode])
	for i, section := range [][]mdns.RR{m.Answer, m.Ns, m.Extra} {
		if i > 0 && len(section) > 0 {
			out.WriteString(" |")
		}
		for _, rr := range section {
			switch rr := rr.(type) {
			case *mdns.SRV:
				out.WriteString(fmt.Sprintf(" %s:%d*%d", rr.Target, rr.Port, rr.Weight))
			case *mdns.A:
				out.WriteString(" " + rr.A.String())
			case *mdns.AAAA:
				out.WriteString(" " + rr.AAAA.String())
			case *mdns.SOA:
				out.WriteString(" SOA")
			}
			if rr.Header().Ttl != 0 && rr.Header().Rrtype != mdns.TypeOPT {
				out.WriteString(" (kept!)")
			}
		}
	}
	return out.String()
}

// exchange asks at addr, and waits longer than a slow machine takes.
func exchange(m *mdns.Msg, network, addr string) (*mdns.Msg, error) {
	c := mdns.Client{Net: network, Timeout: 20 * time.Second}
	m, _, err := c.Exchange(m, addr)
	return m, err
}

func TestAnswers(t *testing.T) {
	addr := serve(t)
	for _, network := range []string{"udp", "tcp"} {
		for query, want := range map[string]string{
			"a.node.peer A":                                   "NOERROR 10.0.0.1",
			"A.NODE.PEER A":                                   "NOERROR 10.0.0.1",
			"web-1.example.net.node.peer A":                   "NOERROR 10.0.0.1",
			"a.node.peer AAAA":                                "NOERROR | SOA",
			"a.node.peer MX":                                  "NOERROR | SOA",
			"dead.node.peer A":                                "NOERROR | SOA",
			"nobody.node.peer A":                              "NXDOMAIN | SOA",
			"canary.web.service.peer A":                       "NOERROR 10.0.0.2",
			"canary.web.service.peer SRV":                     "NOERROR b.node.peer.:81*3 | 10.0.0.2",
			"_web._canary.service.peer SRV":                   "NOERROR b.node.peer.:81*3 | 10.0.0.2",
			"v6.service.peer AAAA":                            "NOERROR fd00::3",
			"v6.service.peer A":                               "NOERROR | SOA",
			"_v6._tcp.service.peer SRV":                       "NOERROR c.node.peer.:80*1 | fd00::3",
			"far.service.peer SRV":                            "NOERROR 0a090909.addr.peer.:80*1 db.example.net.:5432*1 | 10.9.9.9",
			"far.service.peer A":                              "NOERROR 10.9.9.9",
			"0a090909.addr.peer A":                            "NOERROR 10.9.9.9",
			"0a0909.addr.peer A":                              "NXDOMAIN | SOA",
			"down.service.peer A":                             "NOERROR | SOA",
			"down.service.peer SRV":                           "NOERROR | SOA",
			"nobody.service.peer A":                           "NXDOMAIN | SOA",
			"beta.web.service.peer A":                         "NXDOMAIN | SOA",
			"x.y.web.service.peer A":                          "NXDOMAIN | SOA",
			"service.peer A":                                  "NOERROR | SOA",
			"peer SOA":                                        "NOERROR SOA",
			"peer A":                                          "NOERROR | SOA",
			"web.peer A":                                      "NXDOMAIN | SOA",
			"example.net A":                                   "REFUSED",
			"notpeer A":                                       "REFUSED",
			". A":                                             "REFUSED",
			strings.Repeat("a.", 100) + "peer A":              "NXDOMAIN | SOA",
			"\\000\\255.service.peer A":                       "NXDOMAIN | SOA",
			"_web.service.peer A":                             "NXDOMAIN | SOA",
			"canary.web.service.peer HTTPS":                   "NOERROR | SOA",
			"4294967296.example.node.peer A":                  "NXDOMAIN | SOA",
			"_canary.web.service.peer SRV":                    "NXDOMAIN | SOA",
			"fd000000000000000000000000000003.addr.peer AAAA": "NOERROR fd00::3",
		} {
			name, qtype, _ := strings.Cut(query, " ")
			got, err := exchange(new(mdns.Msg).SetQuestion(mdns.Fqdn(name), mdns.StringToType[qtype]), network, addr)
			if err != nil {
				t.Errorf("%s %s: %v", network, query, err)
				continue
			}
			if s := shown(got); s != want || got.Truncated {
				t.Errorf("%s %s: got %s, want %s", network, query, s, want)
			}
		}
	}
}

// Two answers in a row begin with another host.
func TestRotation(t *testing.T) {
	addr := serve(t)
	first := map[string]int{}
	for range 10 {
		m, err := exchange(new(mdns.Msg).SetQuestion("web.service.peer.", mdns.TypeA), "udp", addr)
		if err != nil || len(m.Answer) != 2 {
			t.Fatal(m, err)
		}
		first[m.Answer[0].(*mdns.A).A.String()]++
	}
	if first["10.0.0.1"] != 5 || first["10.0.0.2"] != 5 {
		t.Errorf("first of ten answers: %v", first)
	}
}

// What does not fit a datagram is cut and says so; over TCP it is whole.
func TestTruncation(t *testing.T) {
	addr := serve(t)
	for _, c := range []struct {
		network string
		edns    uint16
		most    int
		cut     bool
	}{
		{"udp", 0, 512, true},
		{"udp", 100, 512, true},
		{"udp", 1232, 1232, true},
		{"udp", 65535, 1232, true},
		{"tcp", 0, 65535, false},
		{"tcp", 4096, 65535, false},
	} {
		for _, qtype := range []uint16{mdns.TypeA, mdns.TypeSRV} {
			q := new(mdns.Msg).SetQuestion("large.service.peer.", qtype)
			if c.edns > 0 {
				q.SetEdns0(c.edns, false)
			}
			m, _, err := (&mdns.Client{Net: c.network, UDPSize: 65535, Timeout: 20 * time.Second}).Exchange(q, addr)
			if err != nil {
				t.Fatal(err)
			}
			m.Compress = true // as it came
			if m.Truncated != c.cut || m.Len() > c.most || len(m.Answer) == 0 || (!c.cut && len(m.Answer) != 150) {
				t.Errorf("%+v: %d bytes, %d answers, truncated %v", c, m.Len(), len(m.Answer), m.Truncated)
			}
			if (m.IsEdns0() != nil) != (c.edns > 0) {
				t.Errorf("%+v: EDNS0 in the answer: %v", c, m.IsEdns0())
			}
		}
	}
}

func TestOddQueries(t *testing.T) {
	addr := serve(t)
	for want, q := range map[string]*mdns.Msg{
		"REFUSED": {Question: []mdns.Question{{Name: "a.node.peer.", Qtype: mdns.TypeA, Qclass: mdns.ClassCHAOS}}},
		"BADVERS": func() *mdns.Msg {
			m := new(mdns.Msg).SetQuestion("a.node.peer.", mdns.TypeA).SetEdns0(1232, false)
			m.IsEdns0().SetVersion(7)
			return m
		}(),
		"NOTIMP":  {MsgHdr: mdns.MsgHdr{Opcode: mdns.OpcodeUpdate}, Question: []mdns.Question{{Name: "a.node.peer.", Qtype: mdns.TypeA, Qclass: mdns.ClassINET}}},
		"FORMERR": {Question: []mdns.Question{}},
	} {
		q.Id = mdns.Id()
		m, err := exchange(q, "udp", addr)
		if err != nil {
			t.Errorf("%s: %v", want, err)
			continue
		}
		got := mdns.RcodeToString[m.Rcode]
		if m.Rcode == mdns.RcodeBadVers {
			got = "BADVERS"
		}
		if got != want || len(m.Answer) > 0 {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	// Garbage is survived.
	c, err := net.Dial("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for i := range 100 {
		if _, err := c.Write(slices.Repeat([]byte{byte(i)}, 3*i)); err != nil {
			t.Fatal(err)
		}
	}
	if m, err := exchange(new(mdns.Msg).SetQuestion("a.node.peer.", mdns.TypeA), "udp", addr); err != nil || len(m.Answer) != 1 {
		t.Errorf("after garbage: %v, %v", m, err)
	}
}
