// Package address answers where a peer is: at which address it binds, which one
// it tells others, and what the seeds that it was given stand for now.
//
// ParseBind, SplitAdvertise and ParseSeed read the settings and ask nobody. A
// Chooser picks the address that others use, and is asked again for the life of
// the peer, because an address may come after the start (DHCP), change or go. A
// Seed is resolved anew each time. Refuse judges the address that another peer
// announces, and Several makes one short error of many.
//
// The package promises that a mistake in a setting is an error that names the
// fix, that a host whose addresses are odd or missing gets an address and a
// warning instead, and that no error holds more than one line. It does not know
// whether anybody can be reached at an address: it opens no connection and
// sends no packet, DNS apart.
//
// It starts no goroutine that outlives a call. All functions may be called from
// any goroutine; a Chooser belongs to one.
package address

import (
	"fmt"
	"net/netip"
)

// DefaultPort is the gossip port, UDP and TCP.
const DefaultPort = 7946

// Refuse returns why a peer that advertises own cannot use the address that
// another peer announces, nil when it may be dialled. A loopback address
// reaches nobody but its own host, so only a peer that advertises one itself
// takes it: then all peers share a host.
func Refuse(announced, own netip.AddrPort) error {
	ip := announced.Addr().Unmap()
	switch {
	case !announced.IsValid() || ip.IsUnspecified() || ip.IsMulticast():
		return fmt.Errorf("%s is no host's address: start that peer with --advertise ADDR, an address that others reach", announced)
	case announced.Port() == 0:
		return fmt.Errorf("%s has no port: start that peer with --advertise ADDR:PORT", announced)
	case linkLocal6(ip) || ip.Zone() != "":
		return fmt.Errorf("%s is a link-local address, which means something on one link only: start that peer with --advertise ADDR, an address that others reach", announced)
	case ip.IsLoopback() && !own.Addr().Unmap().IsLoopback():
		return fmt.Errorf("%s is a loopback address, which reaches only peers of its own host: start that peer with --advertise ADDR, an address that others reach", announced)
	}
	return nil
}
