//! A line chart as a PNG, drawn here: Tor Browser's "Safest" level blocks SVG and script alike.
//!
//! The background is transparent and all words stand beside it in HTML, so the picture needs neither a font nor a theme beyond the
//! colour of its line. Readings stand in the order in which they came, at equal distances: what waited for a window to open arrives
//! in one moment, and would lie on top of each other on an axis of time.

/// Picture size in pixels; the page shows it at half of this or less, so that it is sharp on dense screens.
pub(crate) const WIDTH: u32 = 1_240;
/// See [`WIDTH`].
pub(crate) const HEIGHT: u32 = 260;
/// Room around the line, in pixels.
const MARGIN: f32 = 14.0;
/// Half the thickness of the line, in pixels.
const LINE: f32 = 2.2;
/// With more values than this, only the newest has a dot.
const DOTS_MAX: usize = 60;
/// Radius of a dot, in pixels.
const POINT: f32 = 4.5;
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

/// Draws values, oldest first, as a PNG. They must be finite.
pub(crate) fn draw(values: &[f64], theme: Theme) -> Result<Vec<u8>, png::EncodingError> {
    let mut canvas = Canvas::new();
    let places = place(values);
    let pairs = || places.windows(2).map(|pair| (pair[0], pair[1]));
    // The area goes first: it fills untouched pixels alone.
    pairs().for_each(|(from, to)| canvas.fill_under(from, to, theme.line()));
    for line in 0..4_u8 {
        let y = MARGIN + f32::from(line) / 3.0 * (to_f32(HEIGHT) - 2.0 * MARGIN);
        canvas.stroke((0.0, y), (to_f32(WIDTH), y), 0.5, theme.grid());
    }
    pairs().for_each(|(from, to)| canvas.stroke(from, to, LINE, theme.line()));
    let dots = if places.len() <= DOTS_MAX { 0 } else { places.len() - 1 };
    places[dots..].iter().for_each(|place| canvas.stroke(*place, *place, POINT, theme.line()));
    encode(&canvas)
}

/// Where the values lie in the picture.
fn place(values: &[f64]) -> Vec<(f32, f32)> {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    // Halved first, so that the largest numbers don't overflow.
    let range = high / 2.0 - low / 2.0;
    let (width, height) = (to_f32(WIDTH) - 2.0 * MARGIN, to_f32(HEIGHT) - 2.0 * MARGIN);
    #[expect(clippy::cast_precision_loss, reason = "a few hundred values")]
    let step = width / values.len().saturating_sub(1).max(1) as f32;
    values
        .iter()
        .enumerate()
        .map(|(index, value)| {
            let up = if range > 0.0 { (value / 2.0 - low / 2.0) / range } else { 0.5 };
            #[expect(clippy::cast_possible_truncation, reason = "a share from 0 to 1")]
            let up = up.clamp(0.0, 1.0) as f32;
            #[expect(clippy::cast_precision_loss, reason = "a few hundred values")]
            let along = if values.len() == 1 { width / 2.0 } else { step * index as f32 };
            (MARGIN + along, MARGIN + (1.0 - up) * height)
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

    fn pixels(values: &[f64]) -> Vec<u8> {
        let file = draw(values, Theme::Light).unwrap();
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
    fn a_rising_value_rises_and_an_even_one_stays_in_the_middle() {
        let rising = pixels(&[1.0, 2.0, 3.0]);
        let (left, right, top, bottom) = (14, WIDTH - 15, 14, HEIGHT - 15);
        assert!(
            is_line(&rising, left, bottom) && is_line(&rising, WIDTH / 2, HEIGHT / 2) && is_line(&rising, right, top)
        );
        assert!(!is_line(&rising, left, top) && !is_line(&rising, right, bottom));
        for even in [&[5.0][..], &[5.0, 5.0]] {
            assert!(is_line(&pixels(even), WIDTH / 2, HEIGHT / 2));
        }
        assert!(!pixels(&[]).is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]
        #[test]
        fn any_numbers_can_be_drawn(values in proptest::collection::vec(-f64::MAX..f64::MAX, 0..90)) {
            prop_assert!(!draw(&values, Theme::Dark).unwrap().is_empty());
        }
    }
}
