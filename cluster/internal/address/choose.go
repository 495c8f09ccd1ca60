package address

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Interface is an address of this host and the name of the interface that has
// it.
type Interface struct {
	Name string
	Addr netip.Addr
}

func (i Interface) String() string { return fmt.Sprintf("%s %s", i.Name, i.Addr) }

// Choice is an address at which others reach this host.
type Choice struct {
	Addr    netip.Addr
	Warning string // for a person who should look at it; "" when it is plain

	rank rank
}

// rank orders addresses by how likely others reach a host there, the best one
// lowest.
type rank int

const (
	rankPrivate rank = iota
	rankShared       // RFC 6598: carriers, clouds, overlays
	rankPublic
	// From here on an address is a makeshift: better than none.
	rankLinkLocal
	rankInternal // leads to containers of this host
	rankLoopback
)

func rankOf(i Interface) rank {
	switch {
	case i.Addr.IsLoopback():
		return rankLoopback
	case isInternal(i.Name):
		return rankInternal
	case i.Addr.IsLinkLocalUnicast():
		return rankLinkLocal
	case sharedSpace.Contains(i.Addr):
		return rankShared
	case i.Addr.IsPrivate():
		return rankPrivate
	}
	return rankPublic
}

// choose returns the address to advertise for a port that is bound to a
// wildcard, given the host's addresses, the source of its default route, and
// what went wrong in finding either. It is the source of the default route when
// that is private, else another private address, else the source of the default
// route, else whatever there is: a host without a private address starts all
// the same.
func choose(bind netip.Addr, all []Interface, source netip.Addr, trouble error) Choice {
	source = source.Unmap()
	if !source.IsValid() || !hears(bind, source) || source.IsLoopback() || source.IsUnspecified() || linkLocal6(source) {
		source = netip.Addr{}
	}
	route := Interface{Name: "default route", Addr: source}
	var private, usable, loopback, unheard []Interface
	for _, i := range all {
		i.Addr = i.Addr.Unmap()
		if i.Addr == source {
			route.Name = i.Name
		}
		switch {
		case !i.Addr.IsValid() || i.Addr.IsUnspecified() || i.Addr.IsMulticast():
		case !hears(bind, i.Addr):
			if !i.Addr.IsLoopback() && !linkLocal6(i.Addr) {
				unheard = append(unheard, i)
			}
		case i.Addr.IsLoopback():
			loopback = append(loopback, i)
		case linkLocal6(i.Addr): // means nothing without this host's own zone
		default:
			usable = append(usable, i)
			if isPrivate(i.Addr) && !isInternal(i.Name) {
				private = append(private, i)
			}
		}
	}
	for _, list := range [][]Interface{private, usable, loopback} {
		slices.SortStableFunc(list, func(a, b Interface) int {
			return cmp.Or(cmp.Compare(worth(a), worth(b)), cmp.Compare(a.Addr.BitLen(), b.Addr.BitLen()))
		})
	}

	const another = "choose another with --advertise ADDR"
	at := func(i Interface, warning string) Choice {
		return Choice{Addr: i.Addr, Warning: warning, rank: rankOf(i)}
	}
	switch {
	case source.IsValid() && isPrivate(source):
		return at(route, "")
	case len(private) == 1 && worth(private[0]) == 0:
		return at(private[0], "")
	case len(private) > 0:
		why := "one of several private addresses"
		if len(private) == 1 {
			why = "an address as overlays and carriers give it"
		}
		return at(private[0], fmt.Sprintf("bound to %s and advertising %s (%s), %s: %s; candidates: %s",
			bind, private[0].Addr, private[0].Name, why, another, list(usable)))
	case source.IsValid():
		if len(usable) == 0 {
			usable = []Interface{route}
		}
		return at(route, fmt.Sprintf("bound to %s and advertising %s, the source of the default route, for want of a private address: %s, or set --bind; candidates: %s",
			bind, source, another, list(usable)))
	case len(usable) > 0:
		return at(usable[0], fmt.Sprintf("bound to %s and advertising %s (%s), for want of a private address and a default route: %s; candidates: %s",
			bind, usable[0].Addr, usable[0].Name, another, list(usable)))
	}
	last := Interface{Addr: netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	if len(loopback) > 0 {
		last = loopback[0]
	}
	warning := fmt.Sprintf("bound to %s and advertising %s: this host has no other address, so only peers on this host can reach it; when it has one, restart, or set it with --advertise ADDR", bind, last.Addr)
	if len(unheard) > 0 {
		warning = fmt.Sprintf("bound to %s and advertising %s: a port bound to IPv4 does not hear this host's addresses, which are of IPv6 only, so only peers on this host can reach it: set --bind [::]:%d; candidates: %s", bind, last.Addr, DefaultPort, list(unheard))
	}
	if trouble != nil {
		warning += fmt.Sprintf(" (%s)", strings.ReplaceAll(trouble.Error(), "\n", "; "))
	}
	return at(last, warning)
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

// worth orders the candidates of a choice, the better one lower: public and
// private ones alike.
func worth(i Interface) int {
	switch r := rankOf(i); r {
	case rankPrivate, rankPublic:
		return 0
	default:
		return int(r)
	}
}

// list writes candidates for a person, at most eight.
func list(cs []Interface) string {
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
