package address

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/peerhq/peer/cluster/internal/text"
)

const (
	// lookupWithin is how long an advertised name may take to resolve.
	lookupWithin = 5 * time.Second
	// lookupEvery is how often an advertised name is looked up again while the
	// host's own addresses stay as they are: a common TTL of records that move.
	lookupEvery = time.Minute
)

// Chooser chooses the address that others use, once with Choose and then with
// Again every few seconds. Its fields are set before and not changed.
type Chooser struct {
	// Bind is the address that the gossip port is bound to.
	Bind netip.Addr
	// Advertise is the configured address, without a port: an IP address, a
	// go-sockaddr template, a name, or empty. See SplitAdvertise.
	Advertise string
	// Resolver looks a name up. Default: net.DefaultResolver.
	Resolver Resolver
	// Host is the machine. Default: ThisHost.
	Host Host

	last   Choice
	addrs  []netip.Addr // of the host, when last was chosen
	route  netip.Addr   // the source of its default route then
	looked time.Time    // when Advertise was looked up
}

// Choose returns the address at which others reach the port. A configured one
// is taken as it is; only that, or a Bind that means nothing to others, can be
// an error. A bind to one address is advertised as it is, and a wildcard at the
// address that fits best, with a warning when that is a guess.
func (c *Chooser) Choose(ctx context.Context) (Choice, error) {
	c.look()
	choice, err := c.choose(ctx)
	if err != nil {
		return Choice{}, err
	}
	c.last = choice
	return choice, nil
}

// Again returns the choice as it is now and whether its address has changed
// since the last one. Call it after Choose. It costs a comparison of the host's
// addresses and of its default route, microseconds, as long as they stay; a
// name is looked up again once a minute too, which may take five seconds.
//
// A choice is not given up lightly. It changes when its address has left the
// host or the name, or when it was a guess for want of a better address and
// there is one now. A host that has lost its addresses keeps the last choice:
// nobody reaches it anyway, and it comes back to the same. With an error the
// last choice stands as well.
func (c *Chooser) Again(ctx context.Context) (choice Choice, changed bool, err error) {
	name := isName(c.Advertise)
	if c.fixed() || !c.look() && !(name && time.Since(c.looked) >= lookupEvery) {
		return c.last, false, nil
	}
	now, err := c.choose(ctx)
	switch {
	case err != nil:
		return c.last, false, err
	case now.Addr == c.last.Addr:
		c.last = now
		return now, false, nil
	case c.Advertise == "" && !better(now, c.last, slices.Contains(c.addrs, c.last.Addr)):
		return c.last, false, nil
	}
	c.last = now
	return now, true, nil
}

// better says whether a choice should give way to the one that would be made
// now. here says whether its address is still this host's.
func better(now, last Choice, here bool) bool {
	if now.rank < last.rank {
		return true
	}
	return !here && (now.rank < rankLinkLocal || now.rank <= last.rank)
}

// fixed says whether nothing on this host changes the choice.
func (c *Chooser) fixed() bool {
	if c.Advertise == "" {
		return !c.Bind.IsUnspecified()
	}
	return !isTemplate(c.Advertise) && !isName(c.Advertise)
}

// look compares the host's addresses and default route with those at the last
// look, and says whether they differ.
func (c *Chooser) look() bool {
	if c.fixed() {
		return false
	}
	addrs, _ := c.host().Addrs()       // Interfaces tells what is wrong
	route, _ := c.host().Route(c.Bind) // the absence of one is an answer
	slices.SortFunc(addrs, netip.Addr.Compare)
	if slices.Equal(addrs, c.addrs) && route == c.route {
		return false
	}
	c.addrs, c.route = addrs, route
	return true
}

func (c *Chooser) choose(ctx context.Context) (Choice, error) {
	bind := c.Bind.Unmap()
	switch {
	case c.Advertise != "":
		return c.explicit(ctx, bind)
	case linkLocal6(bind):
		return Choice{}, fmt.Errorf("bind %s: other hosts cannot dial a link-local address: give --advertise an address that they reach, or --bind another", bind)
	case !bind.IsUnspecified():
		return Choice{Addr: bind}, nil
	}
	all, ifacesErr := c.host().Interfaces()
	source, routeErr := c.host().Route(bind)
	return choose(bind, all, source, errors.Join(ifacesErr, routeErr)), nil
}

func (c *Chooser) host() Host {
	if c.Host == nil {
		return ThisHost()
	}
	return c.Host
}

// explicit returns the address that Advertise names.
func (c *Chooser) explicit(ctx context.Context, bind netip.Addr) (Choice, error) {
	addr, err := c.resolve(ctx, bind)
	if err != nil {
		return Choice{}, fmt.Errorf("advertise %s: %w", text.Quote(c.Advertise), err)
	}
	if why := undialled(addr); why != "" {
		return Choice{}, fmt.Errorf("advertise %s: %s", text.Quote(c.Advertise), why)
	}
	warning := ""
	switch {
	case addr.IsLoopback() && !bind.IsLoopback():
		warning = fmt.Sprintf("advertising %s: only peers on this host can reach it; give --advertise an address of this host that others reach", addr)
	case bind.IsLoopback() && !addr.IsLoopback(), linkLocal6(bind):
		warning = fmt.Sprintf("advertising %s but bound to %s: others get through only if something forwards to it; else set --bind to the address, or 0.0.0.0", addr, bind)
	case !hears(bind, addr):
		warning = fmt.Sprintf("advertising %s but bound to %s, of the other IP version: others get through only if something translates; else set --bind to [::] or to the address", addr, bind)
	}
	return Choice{Addr: addr, Warning: warning}, nil
}

// resolve returns the address that Advertise gives. Of a name's addresses it is
// the last choice if that is still among them, else one that bind hears.
func (c *Chooser) resolve(ctx context.Context, bind netip.Addr) (netip.Addr, error) {
	s := c.Advertise
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
	r := c.Resolver
	if r == nil {
		r = net.DefaultResolver
	}
	c.looked = time.Now()
	ctx, cancel := context.WithTimeout(ctx, lookupWithin)
	defer cancel()
	addrs, err := lookupHost(ctx, r, s, 0)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("%w%s", err, seedFix(err))
	}
	if len(addrs) == 0 {
		return netip.Addr{}, errors.New("the name has no usable address: give an IP address")
	}
	if c.last.Addr.IsValid() && slices.Contains(addrs, netip.AddrPortFrom(c.last.Addr, 0)) {
		return c.last.Addr, nil
	}
	for _, a := range addrs {
		if hears(bind, a.Addr()) {
			return a.Addr(), nil
		}
	}
	return addrs[0].Addr(), nil
}

// SplitAdvertise parts the port, if there is one, from a configured advertise
// address; without one it is 0. The host may be a template or a name, which are
// not looked up, and an address that nobody can dial is an error.
func SplitAdvertise(s string) (host string, port uint16, err error) {
	host, p, ok := splitHostPort(s)
	if !ok {
		host = s
	} else if port, ok = parsePort(p); !ok || port == 0 {
		return "", 0, fmt.Errorf("advertise %s: port %s: give one from 1 to 65535", text.Quote(s), text.Quote(p))
	} else if host == "" {
		return "", 0, fmt.Errorf("advertise %s: the host is missing: give HOST or HOST:PORT", text.Quote(s))
	}
	if ip, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		if why := undialled(ip.Unmap()); why != "" {
			return "", 0, fmt.Errorf("advertise %s: %s", text.Quote(s), why)
		}
	}
	return host, port, nil
}

// undialled returns why other hosts cannot dial ip, or "".
func undialled(ip netip.Addr) string {
	switch {
	case ip.IsUnspecified() || ip.IsMulticast():
		return fmt.Sprintf("%s is no host's address: give one at which the other peers reach this one", ip)
	case ip.Zone() != "":
		return "an address with a zone means something on this host only: give --advertise an address without one, at which the other peers reach this one"
	case linkLocal6(ip):
		return fmt.Sprintf("%s is a link-local address, which other hosts cannot dial: give --advertise another, at which they reach this one", ip)
	}
	return ""
}

// isName says whether s is neither a template nor an IP address, nor empty.
func isName(s string) bool {
	if s == "" || isTemplate(s) {
		return false
	}
	_, err := netip.ParseAddr(strings.Trim(s, "[]"))
	return err != nil
}
