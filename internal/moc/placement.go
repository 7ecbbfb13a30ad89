// SPDX-License-Identifier: Apache-2.0

package moc

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"sealift/cose"
	"sealift/internal/fault"
	"sealift/internal/moc/mocapi"
	"sealift/internal/store"
	"sealift/usecase"
)

// wish is what a request asks of a device.
type wish struct {
	mode      usecase.Mode
	delivery  string
	hardware  []usecase.Hardware // acceptable, the preferred first
	instances []usecase.Instance // likewise
	device    string             // "" for any
	labels    map[string]string  // that the device must have
	pack      bool               // mocapi.PlacePack

	sharing bool   // the instance may serve further applications of the owner
	spread  bool   // mocapi.PlaceSpread, said explicitly
	tee     string // the instance it has to go into; "" for any, or a new one
	app     string
	owner   *cose.Key
	memory  uint64 // that the TA asks for, as far as it is known
}

// place is where a deployment goes.
type place struct {
	device string
	cell   usecase.Cell
	tee    *tee // that is there already; nil: a new one
}

// parseWish reads and checks the part of a request that placement is about. Everything of the use case that can be
// refused without looking at devices is refused here.
func parseWish(r *mocapi.DeploymentRequest) (*wish, error) {
	mode, err := usecase.ParseMode(r.Mode)
	if err != nil {
		return nil, fault.Wrap(fault.BadRequest, err)
	}
	w := &wish{mode: mode, device: r.Device, labels: r.Labels, pack: r.Place == mocapi.PlacePack, spread: r.Place == mocapi.PlaceSpread,
		sharing: r.Sharing != "" || r.ShareWith != "", app: r.App, owner: r.OwnerKey}
	if w.delivery, err = usecase.ParseDelivery(r.Delivery); err != nil {
		return nil, fault.Wrap(fault.BadRequest, err)
	}
	if r.Sharing != "" && r.Sharing != mocapi.SharingOwner {
		return nil, fault.New(fault.BadRequest, "sharing is %q, not %s", r.Sharing, mocapi.SharingOwner)
	}
	if err := checkLabels(r.Labels); err != nil {
		return nil, fault.Wrap(fault.BadRequest, err)
	}
	if r.Place != "" && r.Place != mocapi.PlaceSpread && r.Place != mocapi.PlacePack {
		return nil, fault.New(fault.BadRequest, "place is %q, not %s or %s", r.Place, mocapi.PlaceSpread, mocapi.PlacePack)
	}
	for _, name := range r.Hardware {
		h, err := usecase.ParseHardware(name)
		if err != nil {
			return nil, fault.Wrap(fault.BadRequest, err)
		}
		w.hardware = append(w.hardware, h)
	}
	for _, name := range r.Instances {
		i, err := usecase.ParseInstance(name)
		if err != nil {
			return nil, fault.Wrap(fault.BadRequest, err)
		}
		w.instances = append(w.instances, i)
	}
	if len(w.hardware) == 0 {
		w.hardware = usecase.AllHardware()
	}
	if len(w.instances) == 0 {
		w.instances = usecase.Instances()
	}
	return w, w.feasible()
}

// feasible refuses a wish that no device could fulfil: no valid pair of hardware and instance type, or none that this
// version runs.
func (w *wish) feasible() error {
	var invalid, unrunnable error
	for _, cell := range w.cells() {
		if err := usecase.Valid(cell.Instance, cell.Hardware); err != nil {
			invalid = err
			continue
		}
		err := usecase.Runnable(w.mode, cell.Instance, cell.Hardware)
		if err == nil {
			return nil
		}
		unrunnable = err
	}
	if unrunnable != nil {
		return fault.Wrap(fault.NotRunnable, unrunnable)
	}
	return fault.Wrap(fault.InvalidCell, invalid).WithDetails(invalid)
}

// cells lists the pairs that the owner accepts, the preferred first: hardware counts more than instance type.
func (w *wish) cells() []usecase.Cell {
	var out []usecase.Cell
	for _, h := range w.hardware {
		for _, i := range w.instances {
			out = append(out, usecase.Cell{Instance: i, Hardware: h})
		}
	}
	return out
}

// load is what a device carries already.
type load struct {
	used int // instances
	same int // of them of the same application
}

// better reports whether a device with load x and room left suits the wish better than one with load y.
func (w *wish) better(x load, xRoom int, y load, yRoom int) bool {
	switch {
	case w.pack:
		return xRoom < yRoom
	case x.same != y.same:
		return x.same < y.same
	}
	return xRoom > yRoom
}

// choose picks a device: the owner's preferred cell that any device can serve, on the device that suits the wish best. Of tees, the
// instances that the owner may share, one that fits comes before that, where the wish is to share and not to spread. If
// there is none, the fault says for each device and instance which constraint excludes it.
func (w *wish) choose(devices []*store.Device, loadOf func(device string) (load, error), tees []*tee, now time.Time) (*place, error) {
	shared, excluded := w.join(tees, devices, now)
	if shared != nil && !w.spread {
		return shared, nil
	}
	if w.tee != "" {
		return orNone(shared, excluded)
	}
	type candidate struct {
		dev   *store.Device
		cells []usecase.Cell
		load  load
		room  int
	}
	var fit []candidate
	for _, d := range devices {
		l, err := loadOf(d.ID)
		if err != nil {
			return nil, err
		}
		cells, x := w.serves(d, l.used, now)
		if x != nil {
			excluded = append(excluded, *x)
			continue
		}
		fit = append(fit, candidate{d, cells, l, d.Last.Capacity - l.used})
	}
	for _, cell := range w.cells() {
		var best *candidate
		for i := range fit {
			c := &fit[i]
			if slices.Contains(c.cells, cell) && (best == nil || w.better(c.load, c.room, best.load, best.room)) {
				best = c
			}
		}
		if best != nil {
			return &place{device: best.dev.ID, cell: cell}, nil
		}
	}
	return orNone(shared, excluded)
}

func orNone(p *place, excluded []mocapi.Exclusion) (*place, error) {
	if p == nil {
		return nil, noDevice(excluded)
	}
	return p, nil
}

// admits returns the first constraint that excludes a device whatever runs on it, or nil.
func (w *wish) admits(d *store.Device, now time.Time) *mocapi.Exclusion {
	no := func(constraint, format string, args ...any) *mocapi.Exclusion {
		return &mocapi.Exclusion{Device: d.ID, Constraint: constraint, Reason: fmt.Sprintf(format, args...)}
	}
	a := d.Last
	switch {
	case w.device != "" && w.device != d.ID:
		return no("device", "the request names device %s", w.device)
	case !d.Live(now):
		return no("live", "its Broker was last heard of at %s", d.Seen.UTC().Format(time.RFC3339))
	case !slices.Contains(w.hardware, usecase.Hardware(a.Hardware)):
		return no("hardware", "it has %s, the request accepts %s", a.Hardware, join(w.hardware))
	}
	for _, name := range slices.Sorted(maps.Keys(w.labels)) {
		if got, has := a.Labels[name]; !has {
			return no("label", "it has no label %s, the request wants %s", name, w.labels[name])
		} else if got != w.labels[name] {
			return no("label", "its %s is %s, the request wants %s", name, got, w.labels[name])
		}
	}
	return nil
}

// serves returns the wished cells that a device can serve in an instance of its own, or the first constraint that excludes it.
func (w *wish) serves(d *store.Device, used int, now time.Time) ([]usecase.Cell, *mocapi.Exclusion) {
	no := func(constraint, format string, args ...any) ([]usecase.Cell, *mocapi.Exclusion) {
		return nil, &mocapi.Exclusion{Device: d.ID, Constraint: constraint, Reason: fmt.Sprintf(format, args...)}
	}
	if x := w.admits(d, now); x != nil {
		return nil, x
	}
	a := d.Last
	var cells []usecase.Cell
	for _, i := range w.instances {
		cell := usecase.Cell{Instance: i, Hardware: usecase.Hardware(a.Hardware)}
		if slices.Contains(a.InstanceTypes, string(i)) && usecase.Runnable(w.mode, cell.Instance, cell.Hardware) == nil {
			cells = append(cells, cell)
		}
	}
	switch {
	case len(cells) == 0:
		return no("instance", "it runs %s, the request accepts %s%s", cmp.Or(strings.Join(a.InstanceTypes, ", "), "none"), join(w.instances), lacking(a.Lacks, w.instances))
	case used >= a.Capacity:
		return no("capacity", "%d of %d instances are taken", used, a.Capacity)
	}
	return cells, nil
}

// lacking says what a device lacks for instance types.
func lacking(lacks map[string]string, instances []usecase.Instance) (text string) {
	for _, i := range instances {
		if why := lacks[string(i)]; why != "" {
			text += fmt.Sprintf("; %s: %s", i, why)
		}
	}
	return text
}

// labelPattern is the form of a label's name and value: short, and safe to print.
var labelPattern = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?$`)

func checkLabels(labels map[string]string) error {
	if len(labels) > mocapi.MaxLabels {
		return fmt.Errorf("more than %d labels", mocapi.MaxLabels)
	}
	for name, value := range labels {
		for _, text := range []string{name, value} {
			if len(text) > mocapi.MaxLabelBytes || !labelPattern.MatchString(text) {
				return fmt.Errorf("label %q = %q: want 1 to %d letters, digits, '.', '_', '/' and '-'", name, value, mocapi.MaxLabelBytes)
			}
		}
	}
	return nil
}

func noDevice(excluded []mocapi.Exclusion) error {
	if len(excluded) == 0 {
		excluded = []mocapi.Exclusion{}
		return fault.New(fault.NoDevice, "no device fits: none has announced itself").WithDetails(excluded).
			WithHint("start a Broker with sealift broker run")
	}
	var why []string
	for _, x := range excluded {
		where := x.Device
		if x.TEE != "" {
			where = fmt.Sprintf("instance %s on %s", x.TEE, x.Device)
		}
		why = append(why, fmt.Sprintf("%s: %s (%s)", where, x.Constraint, x.Reason))
	}
	return fault.New(fault.NoDevice, "no device fits: %s", strings.Join(why, "; ")).WithDetails(excluded)
}

func join[T ~string](list []T) string {
	var out []string
	for _, v := range list {
		out = append(out, string(v))
	}
	return strings.Join(out, ", ")
}
