package dns

import (
	"encoding/hex"
	"net/netip"
	"strings"

	"github.com/miekg/dns"
)

const (
	minUDP = 512  // bytes that every client takes
	maxUDP = 1232 // bytes that no path breaks up
	// maxAnswers bounds an answer over TCP; who needs all reads /v1/services.
	maxAnswers = 200
)

// answer makes the answer to req.
func (s *Server) answer(req *dns.Msg, udp bool) *dns.Msg {
	m := new(dns.Msg).SetReply(req)
	m.Authoritative = true
	m.Compress = true
	size := dns.MaxMsgSize
	if udp {
		size = minUDP
	}
	if opt := req.IsEdns0(); opt != nil {
		if udp {
			size = min(max(int(opt.UDPSize()), minUDP), maxUDP)
		}
		m.SetEdns0(maxUDP, false)
		if opt.Version() != 0 {
			m.Rcode = dns.RcodeBadVers
			return m
		}
	}
	switch {
	case req.Opcode != dns.OpcodeQuery:
		m.Rcode = dns.RcodeNotImplemented
	case len(req.Question) != 1:
		m.Rcode = dns.RcodeFormatError
	case req.Question[0].Qclass != dns.ClassINET && req.Question[0].Qclass != dns.ClassANY:
		m.Rcode = dns.RcodeRefused
	default:
		s.fill(m, req.Question[0])
	}
	m.Truncate(size)
	return m
}

// fill answers q in m.
func (s *Server) fill(m *dns.Msg, q dns.Question) {
	name := dns.CanonicalName(q.Name)
	if !dns.IsSubDomain(s.domain, name) {
		m.Authoritative = false
		m.Rcode = dns.RcodeRefused
		return
	}
	rel := strings.TrimSuffix(strings.TrimSuffix(name, s.domain), ".")
	exists := true
	switch head, kind := cutLast(rel); {
	case rel == "":
		if q.Qtype == dns.TypeSOA || q.Qtype == dns.TypeANY {
			m.Answer = append(m.Answer, s.soa())
		}
	case head == "" && (kind == "node" || kind == "service" || kind == "addr"):
		// There are names below it.
	case kind == "node":
		exists = s.node(m, q, head)
	case kind == "service":
		exists = s.service(m, q, head)
	case kind == "addr":
		exists = s.address(m, q, head)
	default:
		exists = false
	}
	if !exists {
		m.Rcode = dns.RcodeNameError
	}
	if len(m.Answer) == 0 {
		m.Ns = append(m.Ns, s.soa())
	}
}

// cutLast parts a name before its last label.
func cutLast(name string) (head, last string) {
	i := strings.LastIndexByte(name, '.')
	if i < 0 {
		return "", name
	}
	return name[:i], name[i+1:]
}

// node answers for NAME.node and says whether there is one.
func (s *Server) node(m *dns.Msg, q dns.Question, name string) bool {
	ip, live, known := s.source.Node(name)
	if live {
		m.Answer = appendIP(m.Answer, q.Name, q.Qtype, ip)
	}
	return known
}

// address answers for HEX.addr, the target of an SRV record whose service
// listens elsewhere than its member, and says whether HEX is an address.
func (s *Server) address(m *dns.Msg, q dns.Question, name string) bool {
	raw, err := hex.DecodeString(name)
	ip, ok := netip.AddrFromSlice(raw)
	if err != nil || !ok {
		return false
	}
	m.Answer = appendIP(m.Answer, q.Name, q.Qtype, ip)
	return true
}

// service answers for NAME.service, TAG.NAME.service, _NAME._tcp.service and
// _NAME._TAG.service, and says whether there is one.
func (s *Server) service(m *dns.Msg, q dns.Question, name string) bool {
	tag, rest, two := strings.Cut(name, ".")
	switch {
	case !two:
		tag, name = "", tag
	case strings.HasPrefix(tag, "_") && strings.HasPrefix(rest, "_"):
		name, tag = tag[1:], rest[1:]
		if tag == "tcp" || tag == "udp" {
			tag = ""
		}
	default:
		name = rest
	}
	live, known := s.source.Service(name, tag)
	if !known {
		return false
	}
	seen := map[string]bool{} // what stands once in an answer
	for _, t := range live[:min(len(live), maxAnswers)] {
		s.target(m, q, t, seen)
	}
	return true
}

// target adds what q wants to know of t.
func (s *Server) target(m *dns.Msg, q dns.Question, t Target, seen map[string]bool) {
	ip, host := t.IP, dns.Fqdn(t.Node+".node."+s.domain)
	if t.Addr != "" {
		if other, err := netip.ParseAddr(t.Addr); err != nil {
			ip, host = netip.Addr{}, dns.Fqdn(t.Addr) // somebody else resolves it
		} else if other != t.IP {
			ip, host = other, hex.EncodeToString(other.AsSlice())+".addr."+s.domain
		}
	}
	switch q.Qtype {
	case dns.TypeA, dns.TypeAAAA, dns.TypeANY:
		if ip.IsValid() && !seen[ip.String()] {
			seen[ip.String()] = true
			m.Answer = appendIP(m.Answer, q.Name, q.Qtype, ip)
		}
	}
	if q.Qtype != dns.TypeSRV && q.Qtype != dns.TypeANY {
		return
	}
	m.Answer = append(m.Answer, &dns.SRV{
		Hdr:      header(q.Name, dns.TypeSRV),
		Priority: 1, Weight: uint16(min(max(t.Weight, 1), 65535)), Port: t.Port, Target: host,
	})
	if ip.IsValid() && !seen[host] {
		seen[host] = true
		m.Extra = appendIP(m.Extra, host, dns.TypeANY, ip)
	}
}

// appendIP adds ip as the type that is asked for, if it is of it.
func appendIP(to []dns.RR, name string, qtype uint16, ip netip.Addr) []dns.RR {
	ip = ip.Unmap()
	switch {
	case !ip.IsValid():
	case ip.Is4() && (qtype == dns.TypeA || qtype == dns.TypeANY):
		return append(to, &dns.A{Hdr: header(name, dns.TypeA), A: ip.AsSlice()})
	case ip.Is6() && (qtype == dns.TypeAAAA || qtype == dns.TypeANY):
		return append(to, &dns.AAAA{Hdr: header(name, dns.TypeAAAA), AAAA: ip.AsSlice()})
	}
	return to
}

// header is of a record that lives for no time: who is live is asked each time.
func header(name string, t uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: t, Class: dns.ClassINET}
}

// soa says that nothing, not even that there is nothing, may be kept.
func (s *Server) soa() dns.RR {
	return &dns.SOA{
		Hdr: header(s.domain, dns.TypeSOA), Ns: "ns." + s.domain, Mbox: "hostmaster." + s.domain,
		Serial: 1, Refresh: 3600, Retry: 600, Expire: 86400, Minttl: 0,
	}
}
