package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/go-sockaddr/template"
)

// How long an advertise address that is a name may take to resolve.
const advertiseLookup = 5 * time.Second

// candidate is an address of this host.
type candidate struct {
	Iface string
	Addr  netip.Addr
}

func (c candidate) String() string { return fmt.Sprintf("%s %s", c.Iface, c.Addr) }

// chooseAdvertise returns the address at which others reach the port bound at
// bind, and a warning when a person should look at the choice.
//
// advertise is the configured address: an IP address, a go-sockaddr template
// or a name, without a port; only it can be wrong. When it is empty, a bind to
// one address is advertised as it is. A wildcard bind is advertised at the
// source of the default route when that is private, else at another private
// address, else at the source of the default route, else at whatever there is:
// a host without a private address starts all the same.
//
// ifaces and route ask the host, see hostCandidates and defaultRoute.
func chooseAdvertise(bind netip.Addr, advertise string, ifaces func() ([]candidate, error), route func() (netip.Addr, error)) (addr netip.Addr, warning string, err error) {
	bind = bind.Unmap()
	if advertise != "" {
		return explicitAdvertise(bind, advertise)
	}
	if !bind.IsUnspecified() {
		return bind, "", nil
	}

	all, ifacesErr := ifaces()
	source, routeErr := route()
	source = source.Unmap()
	if routeErr != nil || !source.IsValid() || !hears(bind, source) || source.IsLoopback() || source.IsUnspecified() {
		source = netip.Addr{}
	}
	if source.IsValid() && isPrivate(source) {
		return source, "", nil
	}

	var private, usable, loopback []candidate
	for _, c := range all {
		c.Addr = c.Addr.Unmap()
		switch {
		case !c.Addr.IsValid() || !hears(bind, c.Addr) || c.Addr.IsUnspecified() || c.Addr.IsMulticast():
		case c.Addr.IsLoopback():
			loopback = append(loopback, c)
		case c.Addr.Is6() && c.Addr.IsLinkLocalUnicast(): // means nothing without this host's own zone
		default:
			usable = append(usable, c)
			if isPrivate(c.Addr) && !isInternal(c.Iface) {
				private = append(private, c)
			}
		}
	}
	for _, list := range [][]candidate{private, usable, loopback} {
		slices.SortStableFunc(list, func(a, b candidate) int {
			return cmp.Or(cmp.Compare(worth(a), worth(b)), cmp.Compare(a.Addr.BitLen(), b.Addr.BitLen()))
		})
	}

	const choose = "choose another with --advertise ADDR"
	switch {
	case len(private) == 1 && worth(private[0]) == 0:
		return private[0].Addr, "", nil
	case len(private) > 0:
		why := "one of several private addresses"
		if len(private) == 1 {
			why = "an address as overlays and carriers give it"
		}
		return private[0].Addr, fmt.Sprintf("bound to %s and advertising %s (%s), %s: %s; candidates: %s",
			bind, private[0].Addr, private[0].Iface, why, choose, listCandidates(usable)), nil
	case source.IsValid():
		if len(usable) == 0 {
			usable = []candidate{{Iface: "default route", Addr: source}}
		}
		return source, fmt.Sprintf("bound to %s and advertising %s, the source of the default route, for want of a private address: %s, or set --bind; candidates: %s",
			bind, source, choose, listCandidates(usable)), nil
	case len(usable) > 0:
		return usable[0].Addr, fmt.Sprintf("bound to %s and advertising %s (%s), for want of a private address and a default route: %s; candidates: %s",
			bind, usable[0].Addr, usable[0].Iface, choose, listCandidates(usable)), nil
	}
	addr = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if len(loopback) > 0 {
		addr = loopback[0].Addr
	}
	warning = fmt.Sprintf("bound to %s and advertising %s: this host has no other address, so only peers on this host can reach it; when it has one, restart, or set it with --advertise ADDR", bind, addr)
	if e := errors.Join(ifacesErr, routeErr); e != nil {
		warning += fmt.Sprintf(" (%s)", strings.ReplaceAll(e.Error(), "\n", "; "))
	}
	return addr, warning, nil
}

// explicitAdvertise returns the address that s names.
func explicitAdvertise(bind netip.Addr, s string) (netip.Addr, string, error) {
	addr, err := hostAddr(s, bind)
	if err != nil {
		return netip.Addr{}, "", fmt.Errorf("advertise %s: %w", quote(s), err)
	}
	if addr.IsUnspecified() || addr.IsMulticast() {
		return netip.Addr{}, "", fmt.Errorf("advertise %s: %s is no host's address: give one at which the other peers reach this one", quote(s), addr)
	}
	switch {
	case addr.IsLoopback() && !bind.IsLoopback():
		return addr, fmt.Sprintf("advertising %s: only peers on this host can reach it; give --advertise an address of this host that others reach", addr), nil
	case bind.IsLoopback() && !addr.IsLoopback():
		return addr, fmt.Sprintf("advertising %s but bound to %s: others get through only if something forwards to it; else set --bind to the address, or 0.0.0.0", addr, bind), nil
	case !hears(bind, addr):
		return addr, fmt.Sprintf("advertising %s but bound to %s, of the other IP version: others get through only if something translates; else set --bind to [::] or to the address", addr, bind), nil
	}
	return addr, "", nil
}

// hostAddr returns the address that s gives: an IP address, a template, or a
// name, of whose addresses one that bind hears is preferred.
func hostAddr(s string, bind netip.Addr) (netip.Addr, error) {
	if isTemplate(s) {
		return expandTemplate(s)
	}
	if ip, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return ip.Unmap(), nil
	}
	if _, _, err := net.SplitHostPort(s); err == nil {
		return netip.Addr{}, errors.New("give the address without a port")
	}
	if why := badHost(s); why != "" {
		return netip.Addr{}, errors.New(why)
	}
	ctx, cancel := context.WithTimeout(context.Background(), advertiseLookup)
	defer cancel()
	addrs, err := lookupHost(ctx, net.DefaultResolver, s, 0)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("%w%s", err, seedFix(err))
	}
	if len(addrs) == 0 {
		return netip.Addr{}, errors.New("the name has no usable address: give an IP address")
	}
	for _, a := range addrs {
		if hears(bind, a.Addr()) {
			return a.Addr(), nil
		}
	}
	return addrs[0].Addr(), nil
}

// splitAdvertise parts the port, if there is one, from a configured advertise
// address; without one it is 0. The host may be a template.
func splitAdvertise(s string) (host string, port uint16, err error) {
	host, p, ok := splitHostPort(s)
	if !ok {
		return s, 0, nil
	}
	port, ok = parsePort(p)
	if !ok || port == 0 {
		return "", 0, fmt.Errorf("advertise %s: port %s: give one from 1 to 65535", quote(s), quote(p))
	}
	if host == "" {
		return "", 0, fmt.Errorf("advertise %s: the host is missing: give HOST or HOST:PORT", quote(s))
	}
	return host, port, nil
}

// hostCandidates returns the addresses of this host's interfaces that are up.
func hostCandidates() ([]candidate, error) {
	ifaces, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list the interfaces: %w", err)
	}
	var out []candidate
	for _, i := range ifaces {
		if i.Flags&net.FlagUp == 0 {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			continue // it went away in between
		}
		for _, a := range addrs {
			if n, ok := a.(*net.IPNet); ok {
				if ip, ok := netip.AddrFromSlice(n.IP); ok {
					out = append(out, candidate{Iface: i.Name, Addr: ip.Unmap()})
				}
			}
		}
	}
	return out, nil
}

// defaultRoute returns a function that asks the kernel which address it would
// send from to the Internet, over IPv4 where bind allows it, else over IPv6.
// No packet is sent.
func defaultRoute(bind netip.Addr) func() (netip.Addr, error) {
	// Root name servers: addresses that no host routes in a way of their own.
	const far4, far6 = "198.41.0.4:53", "[2001:503:ba3e::2:30]:53"
	return func() (netip.Addr, error) {
		far := []string{far4, far6}
		if bind.Unmap().Is4() {
			far = far[:1]
		}
		var errs []error
		for _, f := range far {
			c, err := net.Dial("udp", f)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			local := c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
			c.Close() //nolint:errcheck // nothing was written
			return local, nil
		}
		return netip.Addr{}, fmt.Errorf("find the default route: %w", errors.Join(errs...))
	}
}

// hears says whether a socket bound to bind hears what is sent to a, as far
// as their IP versions go: [::] hears both.
func hears(bind, a netip.Addr) bool {
	if bind.Is4() {
		return a.Is4()
	}
	return bind.IsUnspecified() || a.Is6()
}

var sharedSpace = netip.MustParsePrefix("100.64.0.0/10") // RFC 6598: carriers, clouds, overlays

func isPrivate(a netip.Addr) bool { return a.IsPrivate() || sharedSpace.Contains(a) }

// isInternal says whether an interface usually leads to containers or virtual
// machines of this host and nowhere else. Its address is often the same on
// every host.
func isInternal(iface string) bool {
	for _, p := range []string{"docker", "br-", "veth", "virbr", "vmnet", "vboxnet", "lxcbr", "lxdbr", "incusbr", "podman", "cni", "cali", "cilium", "flannel", "kube", "nodelocaldns", "weave", "dummy", "waydroid"} {
		if strings.HasPrefix(iface, p) {
			return true
		}
	}
	return false
}

// worth orders the candidates of a choice, the better one lower.
func worth(c candidate) int {
	switch {
	case isInternal(c.Iface):
		return 3
	case c.Addr.IsLinkLocalUnicast():
		return 2
	case sharedSpace.Contains(c.Addr):
		return 1
	}
	return 0
}

// listCandidates writes candidates for a person, at most eight.
func listCandidates(cs []candidate) string {
	const most = 8
	parts := make([]string, 0, most+1)
	for i, c := range cs {
		if i == most {
			parts = append(parts, fmt.Sprintf("and %d more", len(cs)-most))
			break
		}
		parts = append(parts, c.String())
	}
	return strings.Join(parts, ", ")
}

func isTemplate(s string) bool { return strings.Contains(s, "{{") }

// expandTemplate returns the one address that the go-sockaddr template s gives.
func expandTemplate(s string) (netip.Addr, error) {
	out, err := template.Parse(s)
	if err != nil {
		return netip.Addr{}, err
	}
	fields := strings.Fields(out)
	switch len(fields) {
	case 0:
		return netip.Addr{}, errors.New("the template gives no address on this host: check the interface that it names, or give an IP address")
	case 1:
	default:
		return netip.Addr{}, fmt.Errorf("the template gives %d addresses (%s): narrow it to one, such as with | limit 1", len(fields), strings.Join(fields, ", "))
	}
	ip, err := netip.ParseAddr(fields[0])
	if err != nil {
		return netip.Addr{}, fmt.Errorf("the template gives %s, which is no IP address: end it with | attr \"address\"", quote(fields[0]))
	}
	return ip.Unmap(), nil
}
