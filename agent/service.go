package agent

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/peerhq/peer/agent/api"
	"github.com/peerhq/peer/agent/checks"
	"github.com/peerhq/peer/cluster"
)

// ServiceConfig is something that runs beside this agent, as peer.yaml has it.
type ServiceConfig struct {
	Name   string            `yaml:"name"` // a DNS label
	Port   uint16            `yaml:"port"`
	Addr   string            `yaml:"addr"` // default: this host's own address
	Tags   []string          `yaml:"tags"`
	Weight *int              `yaml:"weight"` // 1 to 1000; default 1
	Meta   map[string]string `yaml:"meta"`
	Check  CheckConfig       `yaml:"check"` // default: none, the service counts as well
}

// CheckConfig says how a service is checked, by one of http, tcp, grpc and ttl.
type CheckConfig struct {
	HTTP     string        `yaml:"http"`     // URL; any 2xx passes
	TCP      string        `yaml:"tcp"`      // HOST:PORT
	GRPC     string        `yaml:"grpc"`     // HOST:PORT or HOST:PORT/SERVICE
	TTL      time.Duration `yaml:"ttl"`      // the service itself gives signs of life
	Interval time.Duration `yaml:"interval"` // default 10s
	Timeout  time.Duration `yaml:"timeout"`  // default 5s
	Rise     int           `yaml:"rise"`     // good results in a row; default 2
	Fall     int           `yaml:"fall"`     // bad results in a row; default 3
}

// service is a service of this host, as it is registered.
type service struct {
	announced cluster.Service // Health apart
	check     *checks.Spec    // nil: unchecked
	fixed     bool            // it stands in the configuration
}

// service checks c and makes a service of it.
func (c ServiceConfig) service() (service, error) {
	s := service{fixed: true, announced: cluster.Service{
		Name: c.Name, Port: c.Port, Addr: c.Addr, Tags: c.Tags, Meta: c.Meta,
	}}
	if c.Check != (CheckConfig{}) {
		k := c.Check
		s.check = &checks.Spec{HTTP: k.HTTP, TCP: k.TCP, GRPC: k.GRPC, TTL: k.TTL, Interval: k.Interval, Timeout: k.Timeout, Rise: k.Rise, Fall: k.Fall}
	}
	return s, s.finish(c.Weight)
}

// registered checks r and makes a service called name of it.
func registered(name string, r api.Registration) (service, error) {
	s := service{announced: cluster.Service{
		Name: name, Port: r.Port, Addr: r.Addr, Tags: r.Tags, Meta: r.Meta, Draining: r.Draining,
	}}
	if k := r.Check; k != nil {
		s.check = &checks.Spec{
			HTTP: k.HTTP, TCP: k.TCP, GRPC: k.GRPC, TTL: ofMillis(k.TTLMS),
			Interval: ofMillis(k.IntervalMS), Timeout: ofMillis(k.TimeoutMS), Rise: k.Rise, Fall: k.Fall,
		}
	}
	return s, s.finish(r.Weight)
}

// finish sets the weight and reports every mistake in s.
func (s *service) finish(weight *int) error {
	var errs []error
	s.announced.Weight = 1
	if weight != nil {
		s.announced.Weight = *weight
		if *weight == 0 {
			errs = append(errs, fmt.Errorf("service %q: weight 0: want 1 or more; `peer services drain` takes it out of rotation", clip(s.announced.Name)))
		}
	}
	if err := cluster.ValidateRecord(nil, []cluster.Service{s.announced}); err != nil {
		errs = append(errs, err)
	}
	if s.announced.Port == 0 {
		errs = append(errs, fmt.Errorf("service %q: no port: want 1 to 65535", clip(s.announced.Name)))
	}
	if s.check != nil {
		if err := s.check.Validate(); err != nil {
			for line := range strings.SplitSeq(err.Error(), "\n") {
				errs = append(errs, fmt.Errorf("service %q: check: %s", clip(s.announced.Name), line))
			}
		}
	}
	return errors.Join(errs...)
}

// registration is the inverse of registered.
func (s service) registration() api.Registration {
	a := s.announced
	r := api.Registration{Port: a.Port, Addr: a.Addr, Tags: a.Tags, Weight: &a.Weight, Meta: a.Meta, Draining: a.Draining}
	if k := s.check; k != nil {
		r.Check = &api.ServiceCheck{
			HTTP: k.HTTP, TCP: k.TCP, GRPC: k.GRPC, TTLMS: k.TTL.Milliseconds(),
			IntervalMS: k.Interval.Milliseconds(), TimeoutMS: k.Timeout.Milliseconds(), Rise: k.Rise, Fall: k.Fall,
		}
	}
	return r
}

// services checks c.Services, with everything that is announced beside them,
// and reports every mistake at once.
func (c Config) services() ([]service, error) {
	var out []service
	var errs []error
	seen := map[string]bool{}
	for i, sc := range c.Services {
		s, err := sc.service()
		if err != nil {
			for line := range strings.SplitSeq(err.Error(), "\n") {
				errs = append(errs, fmt.Errorf("services[%d]: %s", i, line))
			}
		}
		if seen[sc.Name] {
			errs = append(errs, fmt.Errorf("services[%d]: service %q stands twice; give each its own name", i, clip(sc.Name)))
		}
		seen[sc.Name] = true
		out = append(out, s)
	}
	if len(errs) == 0 {
		var all []cluster.Service
		for _, s := range out {
			all = append(all, s.announced)
		}
		if err := cluster.ValidateRecord(nil, all); err != nil {
			errs = append(errs, fmt.Errorf("services: %w", err))
		}
	}
	return out, errors.Join(errs...)
}

// ofMillis turns a _ms field into a duration; one that is out of any range is
// as long as can be, for Validate to refuse.
func ofMillis(ms int64) time.Duration {
	if ms > math.MaxInt64/int64(time.Millisecond) || ms < -math.MaxInt64/int64(time.Millisecond) {
		return math.MaxInt64
	}
	return time.Duration(ms) * time.Millisecond
}

// clip makes a stranger's name fit a message.
func clip(s string) string {
	if len(s) > 80 {
		s = s[:80] + "…"
	}
	return s
}
