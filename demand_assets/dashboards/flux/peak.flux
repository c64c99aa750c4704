// The hour with the highest measured demand, the first one if several are equal: start and mean MW.
import "date"
import "strings"
import "timezone"

hour = int(v: 1h)
madrid = timezone.location(name: "Europe/Madrid")

// Madrid's clock and its offset from UTC, such as "2022-10-30 02:00 +01:00". The time itself would be
// shown in the browser's format, which may have 12 hours and no AM or PM.
ahead = (t) => (date.hour(t: t, location: madrid) - date.hour(t: t) + 24) % 24
clock = (t) => {
    text = string(v: time(v: int(v: t) + ahead(t: t) * hour))
    day = strings.substring(v: text, start: 0, end: 10)
    minute = strings.substring(v: text, start: 11, end: 16)

    return "${day} ${minute} +0${ahead(t: t)}:00"
}

// Series of other programs have tags, which are further columns.
untagged = /^\{\s*(_(field|measurement|start|stop|time|value): [^,\n]*,?\s*)*\}$/

from(bucket: "capstone7")
    |> range(start: v.timeRangeStart, stop: v.timeRangeStop)
    |> filter(fn: (r) => r._measurement == "demand" and r._field == "RealDemand")
    |> max()
    |> filter(fn: (r) => display(v: r) =~ untagged)
    |> map(fn: (r) => ({from: clock(t: r._time), _value: r._value}))
