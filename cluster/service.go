package cluster

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/peerhq/peer/cluster/internal/text"
)

// Service is something that runs beside a peer and is announced with it.
type Service struct {
	Name   string            `json:"name"`           // a DNS label
	Addr   string            `json:"addr,omitempty"` // empty means the member's own address
	Port   uint16            `json:"port,omitempty"`
	Tags   []string          `json:"tags,omitempty"`
	Weight int               `json:"weight,omitempty"` // 0 counts as 1
	Health string            `json:"health,omitempty"` // passing, warning, critical, or "" when unchecked
	Meta   map[string]string `json:"meta,omitempty"`
	// Draining: it works on what it has and wants nothing new.
	Draining bool `json:"draining,omitempty"`
}

// ValidateRecord reports why tags and services cannot be announced together:
// every mistake in them, or that they do not fit.
func ValidateRecord(tags map[string]string, services []Service) error {
	if err := errors.Join(validateTags(tags), validateServices(services)); err != nil {
		return err
	}
	_, err := encodeRecord(record{Tags: tags, Services: services})
	return err
}

const (
	maxServices = 64
	maxWeight   = 1000
)

var dnsLabel = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// validateServices reports every mistake in services at once.
func validateServices(services []Service) error {
	var errs []error
	if len(services) > maxServices {
		errs = append(errs, fmt.Errorf("%d services, at most %d fit", len(services), maxServices))
	}
	seen := make(map[string]bool, len(services))
	for _, s := range services {
		name := printable(s.Name)
		if !dnsLabel.MatchString(s.Name) {
			errs = append(errs, fmt.Errorf("service %q: want a DNS label: lower-case letters, digits and '-', at most 63", name))
		}
		if seen[s.Name] {
			errs = append(errs, fmt.Errorf("service %q stands twice", name))
		}
		seen[s.Name] = true
		if s.Weight < 0 || s.Weight > maxWeight {
			errs = append(errs, fmt.Errorf("service %q: weight %d: want 0 to %d", name, s.Weight, maxWeight))
		}
		if len(s.Addr) > 253 || text.Unprintable(s.Addr) >= 0 || strings.ContainsAny(s.Addr, " \t") {
			errs = append(errs, fmt.Errorf("service %q: address %q: want a host name or an IP address", name, printable(s.Addr)))
		}
		switch s.Health {
		case "", "passing", "warning", "critical":
		default:
			errs = append(errs, fmt.Errorf("service %q: health %q: want passing, warning or critical", name, printable(s.Health)))
		}
		if len(s.Tags) > 64 {
			errs = append(errs, fmt.Errorf("service %q: %d tags, at most 64 fit", name, len(s.Tags)))
		}
		for _, t := range s.Tags {
			if !dnsLabel.MatchString(t) {
				errs = append(errs, fmt.Errorf("service %q: tag %q: want a DNS label", name, printable(t)))
			}
		}
		if err := validateTags(s.Meta); err != nil {
			errs = append(errs, fmt.Errorf("service %q: meta: %w", name, err))
		}
	}
	return errors.Join(errs...)
}
