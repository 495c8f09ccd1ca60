package address

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/peerhq/peer/cluster/internal/text"
)

const (
	// One seed stands for at most so many addresses: a name with thousands of
	// records is a way into the cluster, not a list to dial.
	maxSeedAddrs = 64
	// How many SRV targets are looked up at the same time.
	srvLookups = 8
)

// Resolver is what this package needs of DNS; *net.Resolver satisfies it.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
	LookupSRV(ctx context.Context, service, proto, name string) (cname string, addrs []*net.SRV, err error)
}

// Seed is one place to look for the cluster: a value, resolved anew each time.
type Seed struct {
	text string     // as it was configured
	addr netip.Addr // of an IP literal; else host or srv is set
	host string
	srv  string
	port uint16
}

// String returns s as it was configured.
func (s Seed) String() string { return s.text }

// ParseSeed reads a seed: HOST, HOST:PORT, an IP address with or without a port
// (IPv6 with a port in brackets), dns+HOST, dns+HOST:PORT or
// dnssrv+_SERVICE._PROTO.NAME. A form without a port gets defaultPort. It asks
// no DNS.
func ParseSeed(s string, defaultPort uint16) (Seed, error) {
	out := Seed{text: s, port: defaultPort}
	rest, scheme := s, ""
	if before, after, ok := strings.Cut(s, "+"); ok {
		scheme, rest = before, after
	}
	switch {
	case s == "":
		return Seed{}, errors.New("seed is empty: give HOST, HOST:PORT, dns+HOST or dnssrv+NAME")
	case strings.Contains(s, "://"):
		return Seed{}, badSeed(s, "it is a URL: give HOST:PORT")
	case scheme == "dnssrv":
		if strings.Contains(rest, ":") {
			return Seed{}, badSeed(s, "the SRV records give the port: remove it")
		}
		if why := badHost(rest); why != "" {
			return Seed{}, badSeed(s, why)
		}
		out.srv = rest
		return out, nil
	case scheme != "" && scheme != "dns":
		return Seed{}, badSeed(s, fmt.Sprintf("%s+ is not known: use dns+HOST or dnssrv+NAME", text.Quote(scheme)))
	}

	if ip, err := netip.ParseAddr(rest); err == nil {
		return out.at(ip)
	}
	host := rest
	if strings.HasPrefix(rest, "[") && strings.HasSuffix(rest, "]") {
		host = rest[1 : len(rest)-1]
	} else if h, p, err := net.SplitHostPort(rest); err == nil {
		port, err := strconv.ParseUint(p, 10, 16)
		if err != nil || port == 0 {
			return Seed{}, badSeed(s, fmt.Sprintf("port %s: give one from 1 to 65535", text.Quote(p)))
		}
		host, out.port = h, uint16(port)
	} else if strings.Contains(rest, ":") {
		return Seed{}, badSeed(s, "it does not parse: give HOST:PORT, and an IPv6 address with a port as [ADDRESS]:PORT")
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return out.at(ip)
	}
	if strings.HasPrefix(rest, "[") {
		return Seed{}, badSeed(s, "what stands in the brackets is not an IPv6 address")
	}
	if why := badHost(host); why != "" {
		return Seed{}, badSeed(s, why)
	}
	out.host = host
	return out, nil
}

// at returns s at ip, which must be one that can be dialled.
func (s Seed) at(ip netip.Addr) (Seed, error) {
	ip = ip.Unmap()
	if ip.IsUnspecified() || ip.IsMulticast() {
		return Seed{}, badSeed(s.text, fmt.Sprintf("%s is no host's address: give the address of a peer", ip))
	}
	if text.Unprintable(ip.Zone()) >= 0 {
		return Seed{}, badSeed(s.text, "its zone cannot be printed, and an address with a zone is no seed: give --join an address that all hosts reach")
	}
	if linkLocal6(ip) || ip.Zone() != "" {
		return Seed{}, badSeed(s.text, fmt.Sprintf("%s means something on one link of one host only: give --join a name, or an address that all hosts reach", ip))
	}
	s.addr = ip
	return s, nil
}

// Resolve returns the addresses that s stands for now, each once, at most 64.
// An IP literal asks nobody. Nothing is kept between calls, so that a record
// that changed is seen by the next one.
func (s Seed) Resolve(ctx context.Context, r Resolver) ([]netip.AddrPort, error) {
	var addrs []netip.AddrPort
	var err error
	switch {
	case s.addr.IsValid():
		return []netip.AddrPort{netip.AddrPortFrom(s.addr, s.port)}, nil
	case s.srv != "":
		addrs, err = lookupSRV(ctx, r, s.srv)
	default:
		addrs, err = lookupHost(ctx, r, s.host, s.port)
	}
	if err != nil {
		return nil, fmt.Errorf("resolve seed %s: %w%s", text.Quote(s.text), err, seedFix(err))
	}
	if len(addrs) == 0 {
		return nil, fmt.Errorf("resolve seed %s: the name has no usable address: check its DNS records", text.Quote(s.text))
	}
	if len(addrs) > maxSeedAddrs {
		// DNS answers in the same order each time. Another 64 every time, so
		// that 64 dead ones do not hide the living for ever.
		if s.srv == "" {
			rand.Shuffle(len(addrs), func(i, j int) { addrs[i], addrs[j] = addrs[j], addrs[i] })
		}
		addrs = addrs[:maxSeedAddrs]
	}
	return addrs, nil
}

func lookupHost(ctx context.Context, r Resolver, host string, port uint16) ([]netip.AddrPort, error) {
	ips, err := r.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	seen := make(map[netip.Addr]bool, len(ips))
	addrs := make([]netip.AddrPort, 0, len(ips))
	for _, ip := range ips {
		ip = ip.Unmap()
		if !ip.IsValid() || ip.IsUnspecified() || ip.IsMulticast() || linkLocal6(ip) || seen[ip] {
			continue
		}
		seen[ip] = true
		addrs = append(addrs, netip.AddrPortFrom(ip, port))
	}
	return addrs, nil
}

// lookupSRV returns the addresses of the targets of name, in the order that
// their priorities and weights gave them. Targets without an address are
// passed over as long as another has one.
func lookupSRV(ctx context.Context, r Resolver, name string) ([]netip.AddrPort, error) {
	_, records, err := r.LookupSRV(ctx, "", "", name)
	if err != nil && len(records) == 0 {
		return nil, err
	}
	records = records[:min(len(records), maxSeedAddrs)]

	found := make([][]netip.AddrPort, len(records))
	errs := make([]error, len(records))
	var wg sync.WaitGroup
	turn := make(chan struct{}, srvLookups)
	for i, rec := range records {
		if rec.Port == 0 || rec.Target == "" || rec.Target == "." { // RFC 2782: "." says that there is none
			continue
		}
		turn <- struct{}{}
		wg.Go(func() {
			defer func() { <-turn }()
			found[i], errs[i] = lookupHost(ctx, r, rec.Target, rec.Port)
		})
	}
	wg.Wait()

	seen := make(map[netip.AddrPort]bool)
	var addrs []netip.AddrPort
	for _, of := range found {
		for _, a := range of {
			if !seen[a] {
				seen[a] = true
				addrs = append(addrs, a)
			}
		}
	}
	if len(addrs) == 0 {
		return nil, cmp.Or(Several("SRV targets, none resolves", errs), err)
	}
	return addrs, nil
}

// seedFix says what to do about a look-up that ended with err.
func seedFix(err error) string {
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return ": check its spelling and its DNS records, or give an IP address"
	case errors.As(err, &dns), errors.Is(err, context.DeadlineExceeded):
		return ": check that this host's DNS server answers, or give an IP address"
	}
	return ""
}

func badSeed(s, why string) error { return fmt.Errorf("seed %s: %s", text.Quote(s), why) }

// badHost returns why h can not be the name of a host, or "".
func badHost(h string) string {
	if h == "" {
		return "the host is missing: give HOST or HOST:PORT"
	}
	h = strings.TrimSuffix(h, ".")
	if len(h) > 253 {
		return fmt.Sprintf("the name has %d bytes, DNS carries 253", len(h))
	}
	last := ""
	for label := range strings.SplitSeq(h, ".") {
		if label == "" || len(label) > 63 {
			return "a part of the name between dots is empty or longer than 63 bytes"
		}
		for _, r := range label {
			if text.IsAlphanumeric(r) || r == '-' || r == '_' {
				continue
			}
			if r >= utf8.RuneSelf {
				return fmt.Sprintf("the name has the character %q: write it in its xn-- form", r)
			}
			return fmt.Sprintf("the name has the character %q: give HOST, HOST:PORT, dns+HOST or dnssrv+NAME, one a seed", r)
		}
		last = label
	}
	if strings.Trim(last, "0123456789") == "" {
		return "it is neither an IP address nor a name: an IPv4 address has four numbers from 0 to 255"
	}
	return ""
}
