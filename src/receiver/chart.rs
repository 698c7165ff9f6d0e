//! A line chart as a PNG, drawn here: Tor Browser's "Safest" level blocks SVG and script alike.
//!
//! The background is transparent and all words stand beside it in HTML, so the picture needs neither a font nor a theme beyond the
//! colour of its line. Time runs along the bottom; where readings stopped coming for long, the line is broken.

/// Picture size in pixels; the page shows it at half of this or less, so that it is sharp on dense screens.
pub(crate) const WIDTH: u32 = 1_360;
/// See [`WIDTH`].
pub(crate) const HEIGHT: u32 = 300;
/// Room around the line, in pixels.
const MARGIN: f32 = 14.0;
/// Half the thickness of the line, in pixels.
const LINE: f32 = 2.2;
/// Radius of a point, in pixels.
const POINT: f32 = 4.5;
/// A gap longer than this many usual gaps breaks the line.
const GAP_FACTOR: f32 = 12.0;
/// How much of the area under the line is covered.
const AREA_OPACITY: f32 = 0.13;

/// Colours of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Theme {
    /// Dark on light.
    Light,
    /// Light on dark.
    Dark,
}

type Colour = [u8; 3];

impl Theme {
    fn line(self) -> Colour {
        match self {
            Self::Light => [0x0b, 0x6e, 0x75],
            Self::Dark => [0x5c, 0xd0, 0xd3],
        }
    }
    fn grid(self) -> Colour {
        match self {
            Self::Light => [0xd3, 0xdc, 0xde],
            Self::Dark => [0x33, 0x42, 0x48],
        }
    }
}

struct Canvas {
    pixels: Vec<u8>,
}

impl Canvas {
    fn new() -> Self {
        Self { pixels: vec![0; (WIDTH * HEIGHT * 4) as usize] }
    }

    /// Lays a colour over a pixel.
    fn blend(&mut self, x: u32, y: u32, colour: Colour, opacity: f32) {
        if x >= WIDTH || y >= HEIGHT || opacity <= 0.0 {
            return;
        }
        let at = ((y * WIDTH + x) * 4) as usize;
        let Some([red, green, blue, alpha]) = self.pixels.get_mut(at..at + 4) else { return };
        let below = f32::from(*alpha) / 255.0;
        let sum = opacity + below * (1.0 - opacity);
        for (channel, new) in [red, green, blue].into_iter().zip(colour) {
            let mixed = (f32::from(new) * opacity + f32::from(*channel) * below * (1.0 - opacity)) / sum;
            *channel = to_byte(mixed);
        }
        *alpha = to_byte(sum * 255.0);
    }

    /// A line with round ends, smooth at its edges.
    fn stroke(&mut self, from: (f32, f32), to: (f32, f32), half: f32, colour: Colour) {
        let reach = half + 1.0;
        let columns = span(from.0.min(to.0) - reach, from.0.max(to.0) + reach, WIDTH);
        for x in columns {
            for y in span(from.1.min(to.1) - reach, from.1.max(to.1) + reach, HEIGHT) {
                let distance = distance((centre(x), centre(y)), from, to);
                self.blend(x, y, colour, (half + 0.5 - distance).clamp(0.0, 1.0));
            }
        }
    }

    /// The area between a line and the bottom.
    fn fill_under(&mut self, from: (f32, f32), to: (f32, f32), colour: Colour) {
        let width = (to.0 - from.0).max(f32::EPSILON);
        for x in span(from.0, to.0, WIDTH) {
            let share = ((centre(x) - from.0) / width).clamp(0.0, 1.0);
            let top = from.1 + (to.1 - from.1) * share;
            for y in span(top, to_f32(HEIGHT) - MARGIN, HEIGHT) {
                let at = ((y * WIDTH + x) * 4 + 3) as usize;
                // Neighbouring pieces share a column; it is filled once.
                if self.pixels.get(at) == Some(&0) {
                    self.blend(x, y, colour, AREA_OPACITY);
                }
            }
        }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to a byte")]
fn to_byte(value: f32) -> u8 {
    value.round().clamp(0.0, 255.0) as u8
}
#[expect(clippy::cast_precision_loss, reason = "pixel numbers are small")]
fn to_f32(pixel: u32) -> f32 {
    pixel as f32
}
fn centre(pixel: u32) -> f32 {
    to_f32(pixel) + 0.5
}
/// The pixels from here to there that exist.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the picture")]
fn span(from: f32, to: f32, size: u32) -> std::ops::Range<u32> {
    let end = to_f32(size);
    (from.floor().clamp(0.0, end) as u32)..(to.ceil().clamp(0.0, end) as u32)
}
fn distance(point: (f32, f32), from: (f32, f32), to: (f32, f32)) -> f32 {
    let (dx, dy) = (to.0 - from.0, to.1 - from.1);
    let length = dx * dx + dy * dy;
    let along = if length > 0.0 { ((point.0 - from.0) * dx + (point.1 - from.1) * dy) / length } else { 0.0 };
    let along = along.clamp(0.0, 1.0);
    ((point.0 - from.0 - along * dx).powi(2) + (point.1 - from.1 - along * dy).powi(2)).sqrt()
}

/// Draws points (seconds, value), oldest first, as a PNG. Values must be finite.
pub(crate) fn draw(points: &[(i64, f64)], theme: Theme) -> Result<Vec<u8>, png::EncodingError> {
    let mut canvas = Canvas::new();
    for line in 0..4_u8 {
        let y = MARGIN + f32::from(line) / 3.0 * (to_f32(HEIGHT) - 2.0 * MARGIN);
        canvas.stroke((0.0, y), (to_f32(WIDTH), y), 0.5, theme.grid());
    }
    let places = place(points);
    let mut gaps: Vec<f32> = places.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    gaps.sort_by(f32::total_cmp);
    let usual = gaps.get(gaps.len() / 2).copied().unwrap_or_default();
    let joined = |from: (f32, f32), to: (f32, f32)| to.0 - from.0 <= (usual * GAP_FACTOR).max(MARGIN);
    let pairs = || places.windows(2).map(|pair| (pair[0], pair[1])).filter(|(from, to)| joined(*from, *to));
    // The area goes first: it fills untouched pixels alone.
    let mut area = Canvas::new();
    pairs().for_each(|(from, to)| area.fill_under(from, to, theme.line()));
    overlay(&mut canvas, &area, theme.line());
    pairs().for_each(|(from, to)| canvas.stroke(from, to, LINE, theme.line()));
    if places.len() <= 60 {
        places.iter().for_each(|place| canvas.stroke(*place, *place, POINT, theme.line()));
    } else if let Some(last) = places.last() {
        canvas.stroke(*last, *last, POINT, theme.line());
    }
    encode(&canvas)
}

fn overlay(canvas: &mut Canvas, area: &Canvas, colour: Colour) {
    for y in 0..HEIGHT {
        for x in 0..WIDTH {
            let alpha = area.pixels.get(((y * WIDTH + x) * 4 + 3) as usize).copied().unwrap_or_default();
            canvas.blend(x, y, colour, f32::from(alpha) / 255.0);
        }
    }
}

/// Where the points lie in the picture.
fn place(points: &[(i64, f64)]) -> Vec<(f32, f32)> {
    let (Some((first, _)), Some((last, _))) = (points.first(), points.last()) else { return Vec::new() };
    let low = points.iter().map(|(_, value)| *value).fold(f64::INFINITY, f64::min);
    let high = points.iter().map(|(_, value)| *value).fold(f64::NEG_INFINITY, f64::max);
    let duration = last.saturating_sub(*first).max(1);
    let (width, height) = (to_f32(WIDTH) - 2.0 * MARGIN, to_f32(HEIGHT) - 2.0 * MARGIN);
    points
        .iter()
        .map(|(at, value)| {
            #[expect(clippy::cast_precision_loss, reason = "a share of the width")]
            let along = if points.len() == 1 { 0.5 } else { at.saturating_sub(*first) as f64 / duration as f64 };
            // Halved first, so that the largest numbers don't overflow.
            let range = high / 2.0 - low / 2.0;
            let up = if range > 0.0 { (value / 2.0 - low / 2.0) / range } else { 0.5 };
            #[expect(clippy::cast_possible_truncation, reason = "a share from 0 to 1")]
            let (along, up) = (along.clamp(0.0, 1.0) as f32, up.clamp(0.0, 1.0) as f32);
            (MARGIN + along * width, MARGIN + (1.0 - up) * height)
        })
        .collect()
}

fn encode(canvas: &Canvas) -> Result<Vec<u8>, png::EncodingError> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, WIDTH, HEIGHT);
    encoder.set_color(png::ColorType::Rgba);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::Fast);
    encoder.write_header()?.write_image_data(&canvas.pixels)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    fn pixels(points: &[(i64, f64)]) -> Vec<u8> {
        let file = draw(points, Theme::Light).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(file)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut pixels).unwrap();
        pixels
    }

    fn is_line(pixels: &[u8], x: u32, y: u32) -> bool {
        let at = ((y * WIDTH + x) * 4) as usize;
        pixels[at..at + 3] == Theme::Light.line() && pixels[at + 3] == 255
    }

    #[test]
    fn a_rising_value_rises_and_a_long_gap_breaks_the_line() {
        let rising = pixels(&[(0, 1.0), (10, 2.0), (20, 3.0)]);
        assert!(
            is_line(&rising, 14, HEIGHT - 15)
                && is_line(&rising, WIDTH - 15, 14)
                && is_line(&rising, WIDTH / 2, HEIGHT / 2)
        );
        let mut points: Vec<(i64, f64)> = (0..20).map(|second| (second, 5.0)).collect();
        points.push((2_000, 5.0));
        let broken = pixels(&points);
        assert!(is_line(&broken, 15, HEIGHT / 2) && is_line(&broken, WIDTH - 15, HEIGHT / 2));
        assert!(!is_line(&broken, WIDTH / 2, HEIGHT / 2));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]
        #[test]
        fn any_numbers_can_be_drawn(points in proptest::collection::vec((any::<i64>(), -f64::MAX..f64::MAX), 0..50)) {
            prop_assert!(!draw(&points, Theme::Dark).unwrap().is_empty());
        }
    }
}
