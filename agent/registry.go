package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/peerhq/peer/agent/api"
	"github.com/peerhq/peer/agent/checks"
	"github.com/peerhq/peer/cluster"
)

// registry holds the services of this host: those of the configuration, and
// those registered while the agent runs, which it keeps in the data dir.
type registry struct {
	fs     cluster.FS
	path   string // of the file; empty: nothing is kept
	tags   map[string]string
	checks *checks.Checker
	logger hclog.Logger

	warning string // of the start: what became of a file that could not be read

	mu       sync.Mutex
	services map[string]service
	damaged  bool // the file could not be read and still lies in its place
}

const (
	keptFile   = "services.json"
	schemaKept = "peer.kept-services/v1"
	maxKept    = 1 << 20 // bytes
)

// keptServices is the file.
type keptServices struct {
	Schema   string        `json:"schema"`
	Services []keptService `json:"services"`
	Draining []string      `json:"draining"` // services of the configuration
}

type keptService struct {
	Name string `json:"name"`
	api.Registration
}

// newRegistry returns a registry of fixed and of what the data dir keeps.
func newRegistry(disk cluster.FS, dataDir string, tags map[string]string, fixed []service, logger hclog.Logger) *registry {
	r := &registry{fs: disk, tags: tags, logger: logger, services: map[string]service{}}
	if r.fs == nil {
		r.fs = cluster.Disk()
	}
	for _, s := range fixed {
		r.services[s.announced.Name] = s
	}
	if dataDir != "" {
		r.path = filepath.Join(dataDir, keptFile)
		r.load()
	}
	return r
}

// load reads the file into r. What makes no sense is set aside: the agent runs
// without it and says so.
func (r *registry) load() {
	data, err := r.fs.ReadFile(r.path)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var kept keptServices
	if err == nil {
		kept, err = decodeKept(data)
	}
	if err != nil {
		r.warning = fmt.Sprintf("%s: %s: services registered while the agent ran are not announced", r.path, oneLine(err))
		r.damaged = true
		r.setAside()
		return
	}
	for _, k := range kept.Services {
		s, err := registered(k.Name, k.Registration)
		if err == nil && r.services[k.Name].fixed {
			err = fmt.Errorf("service %q stands in the configuration now", clip(k.Name))
		}
		if err == nil {
			r.services[k.Name] = s
			err = r.fits()
		}
		if err != nil {
			if !r.services[k.Name].fixed {
				delete(r.services, k.Name)
			}
			r.logger.Warn("a kept registration is dropped", "service", clip(k.Name), "err", oneLine(err))
		}
	}
	for _, name := range kept.Draining {
		if s, ok := r.services[name]; ok && s.fixed {
			s.announced.Draining = true
			r.services[name] = s
		}
	}
}

func decodeKept(data []byte) (keptServices, error) {
	var kept keptServices
	if len(data) > maxKept {
		return kept, fmt.Errorf("%d bytes, more than this agent ever writes", len(data))
	}
	d := json.NewDecoder(bytes.NewReader(data))
	if err := d.Decode(&kept); err != nil {
		return kept, fmt.Errorf("is damaged: %w", err)
	}
	if kept.Schema != schemaKept {
		return kept, fmt.Errorf("is of the form %q, this agent reads %s", clip(kept.Schema), schemaKept)
	}
	return kept, nil
}

// setAside moves a file that could not be read out of the way. The caller holds
// r.mu or is alone.
func (r *registry) setAside() {
	aside := r.path + ".damaged"
	if err := r.fs.Rename(r.path, aside); err != nil {
		r.logger.Warn("set damaged registrations aside", "err", err)
		return
	}
	r.damaged = false
	r.warning += "; it is kept as " + aside
}

// fits says why what is registered cannot be announced. The caller holds r.mu
// or is alone.
func (r *registry) fits() error { return cluster.ValidateRecord(r.tags, r.announced()) }

// announced returns the services without their health, by name. The caller holds
// r.mu or is alone.
func (r *registry) announced() []cluster.Service {
	out := make([]cluster.Service, 0, len(r.services))
	for _, s := range r.services {
		out = append(out, s.announced)
	}
	slices.SortFunc(out, func(a, b cluster.Service) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// current returns the services to announce, with what their checks found last.
func (r *registry) current() []cluster.Service {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.announced()
	for i := range out {
		if r.services[out[i].Name].check == nil {
			continue
		}
		out[i].Health = checks.Critical
		if r.checks != nil {
			if st, ok := r.checks.Status(out[i].Name); ok {
				out[i].Health = st.Health
			}
		}
	}
	return out
}

// watch begins the checks. It is called once, before anybody may register.
func (r *registry) watch(c *checks.Checker) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.checks = c
	for name, s := range r.services {
		if s.check != nil {
			if err := c.Set(name, *s.check); err != nil {
				return err
			}
		}
	}
	return nil
}

// errFixed: the service stands in the configuration.
var errFixed = errors.New("it stands in the agent's configuration")

// errNotKept: the data dir does not take it.
var errNotKept = errors.New("the data dir does not take it")

// errNoService: it is not registered here.
var errNoService = errors.New("it is not registered here")

// change runs f on the service called name, the zero one if there is none, and
// takes what f returns in its place: all of it, the file included, or nothing
// with the error. A nil service takes it away.
func (r *registry) change(name string, f func(old service, known bool) (*service, error)) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	old, known := r.services[name]
	s, err := f(old, known)
	if err != nil {
		return err
	}
	put := func(s *service) {
		if s == nil {
			delete(r.services, name)
		} else {
			r.services[name] = *s
		}
	}
	put(s)
	err = r.fits()
	if err == nil {
		err = r.save()
	}
	if err != nil {
		if known {
			put(&old)
		} else {
			put(nil)
		}
		return err
	}
	if s == nil || s.check == nil {
		r.checks.Remove(name)
		return nil
	}
	return r.checks.Set(name, *s.check)
}

// save writes the file. The caller holds r.mu.
func (r *registry) save() error {
	if r.path == "" {
		return nil
	}
	kept := keptServices{Schema: schemaKept, Services: []keptService{}, Draining: []string{}}
	for _, a := range r.announced() {
		s := r.services[a.Name]
		switch {
		case !s.fixed:
			kept.Services = append(kept.Services, keptService{a.Name, s.registration()})
		case a.Draining:
			kept.Draining = append(kept.Draining, a.Name)
		}
	}
	data, err := json.MarshalIndent(kept, "", "  ")
	if err != nil {
		return fmt.Errorf("encode registrations: %w", err)
	}
	if r.damaged {
		r.setAside()
	}
	if r.damaged {
		return fmt.Errorf("%w: a damaged %s lies there and cannot be moved", errNotKept, r.path)
	}
	err = r.fs.WriteFile(r.path, append(data, '\n'))
	if errors.Is(err, fs.ErrNotExist) {
		if err = r.fs.MkdirAll(filepath.Dir(r.path)); err == nil {
			err = r.fs.WriteFile(r.path, append(data, '\n'))
		}
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errNotKept, err)
	}
	return nil
}

// local returns what only this agent knows of its service called name.
func (r *registry) local(name string) *api.LocalService {
	r.mu.Lock()
	s, known := r.services[name]
	r.mu.Unlock()
	if !known {
		return nil
	}
	out := &api.LocalService{Origin: "runtime"}
	if s.fixed {
		out.Origin = "config"
	}
	if st, ok := r.checks.Status(name); ok {
		out.Check = &api.CheckStatus{Kind: st.Kind, Target: st.Target, Output: st.Output, Since: st.Since.UTC(), TookMS: millis(st.Took)}
		if !st.Checked.IsZero() {
			t := st.Checked.UTC()
			out.Check.CheckedAt = &t
		}
	}
	return out
}

// announcer tells the cluster of this host's services whenever they have
// changed. It is the one goroutine that does, so that a later state never goes
// before an earlier one.
type announcer struct {
	registry *registry
	cluster  *cluster.Cluster
	logger   hclog.Logger
	kick     chan struct{}
	end      chan struct{}
	ended    chan struct{}
	once     sync.Once
}

func newAnnouncer(r *registry, c *cluster.Cluster, logger hclog.Logger) *announcer {
	return &announcer{registry: r, cluster: c, logger: logger, kick: make(chan struct{}, 1), end: make(chan struct{}), ended: make(chan struct{})}
}

// changed asks for an announcement. It does not block.
func (a *announcer) changed() {
	select {
	case a.kick <- struct{}{}:
	default:
	}
}

func (a *announcer) run() {
	defer close(a.ended)
	for {
		select {
		case <-a.end:
			return
		case <-a.kick:
		}
		now := a.registry.current()
		if reflect.DeepEqual(now, orNone(a.cluster.Self().Services)) {
			continue
		}
		if err := a.cluster.SetServices(now); err != nil {
			a.logger.Warn("announce services", "err", err)
		}
	}
}

func (a *announcer) close() {
	a.once.Do(func() { close(a.end) })
	<-a.ended
}

// shown returns when this agent's own View shows what is registered: who has
// registered a service may ask for it at once.
func (a *announcer) shown(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	for {
		index := a.cluster.View().Index
		if reflect.DeepEqual(a.registry.current(), orNone(a.cluster.Self().Services)) {
			return nil
		}
		if err := a.cluster.Changed(ctx, index); err != nil {
			return err
		}
	}
}

func orNone(s []cluster.Service) []cluster.Service {
	if s == nil {
		return []cluster.Service{}
	}
	return s
}
